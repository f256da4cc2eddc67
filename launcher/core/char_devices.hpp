// Numbers of char devices as /proc/devices tells them. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// A major number and the name that its driver registered. One driver may have several.
struct CharMajor {
  unsigned major = 0;
  std::string name;
  bool operator==(const CharMajor&) const = default;
};

/// The char devices of /proc/devices (proc(5)), `text` being its contents; lines that are none are left out.
std::vector<CharMajor> parse_char_majors(std::string_view text);

/// The first major of `name`; nullopt if no driver has registered it.
std::optional<unsigned> find_char_major(const std::vector<CharMajor>& majors, std::string_view name);

}  // namespace berth
