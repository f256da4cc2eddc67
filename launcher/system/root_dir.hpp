// Reading below a root directory that may be "/", a captured node or a test's fake tree; nothing leads out of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {

/// A directory that paths are resolved in as if it were "/": absolute symlinks and ".." stay inside.
class RootDir {
 public:
  /// Throws Error{host} if `path` is not a directory, or if the kernel lacks openat2 (before 5.6).
  explicit RootDir(const std::string& path);

  /// Content of a file, at most `limit` bytes, without white space at the end. nullopt if it is absent, vanishes
  /// meanwhile, cannot be read, is not a regular file, or is longer: a device's attribute that cannot be had is
  /// unknown, and no reason to give up on the node.
  [[nodiscard]] std::optional<std::string> read_text(const std::string& path, std::size_t limit = 4096) const;
  /// A decimal number; nullopt also if the text is not a number or negative ("-1" is sysfs's word for unknown).
  [[nodiscard]] std::optional<std::uint64_t> read_number(const std::string& path) const;
  /// Names in a directory in natural order ("eth2" before "eth10"), without "." and ".."; empty if there is none.
  [[nodiscard]] std::vector<std::string> list(const std::string& path) const;
  /// The last component of what a symlink points to; nullopt if `path` is not a symlink.
  [[nodiscard]] std::optional<std::string> read_link_name(const std::string& path) const;
  /// All of it, as it is written.
  [[nodiscard]] std::optional<std::string> read_link(const std::string& path) const;
  [[nodiscard]] bool exists(const std::string& path) const;

 private:
  [[nodiscard]] UniqueFd open(const std::string& path, int flags) const;
  UniqueFd root_;
};

}  // namespace berth
