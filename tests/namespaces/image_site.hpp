// A small site for image tests: a root-owned directory of images, a user with a home and a scratch directory, policies,
// and a look at the machine that must be the same afterwards.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launcher/image/image.hpp"
#include "launcher/image/rootfs.hpp"

namespace berth::testing {

/// Mounts, loop devices and squashfuse processes of the machine, as text that can be compared.
std::string read_machine();

class ImageSite {
 public:
  ImageSite();
  ~ImageSite();
  ImageSite(const ImageSite&) = delete;
  ImageSite& operator=(const ImageSite&) = delete;

  /// A small root file system with a static program in it, changed by shell commands run inside its directory, below
  /// /mnt/images/NAME. Returns the path.
  static std::string make_tree(const std::string& name, const std::string& commands = {});
  /// The same, packed; the directory is removed.
  static std::string make_squashfs(const std::string& path, const std::string& commands = {});
  static std::string make_sif(const std::string& path, const std::string& commands = {});

  OpenImage open(const std::string& path) const;
  [[nodiscard]] RootfsRequest request(const OpenImage& image) const;
  UniqueFd build(const std::string& path) const;
  /// Runs `body` as a rank does: inside the root, as the user without privileges; returns what it returns.
  [[nodiscard]] std::string as_rank(const UniqueFd& rootfs, const std::function<std::string()>& body,
                                    bool shared = false) const;
  /// Waits (loop devices and FUSE servers end asynchronously) until the machine is as it was; false if it stays
  /// different.
  [[nodiscard]] bool machine_is_unchanged() const;

  Credentials user{4242, 4243, {4243, 4244}};
  ImagePolicy images{{"/mnt/images", "/mnt/scratch"}, KernelMount::trusted};
  MountPolicy mounts;

 private:
  std::string machine_;
};

/// The error that `action` throws, rendered; "" if it throws none.
std::string refusal(const std::function<void()>& action);

/// Checks that `part` is somewhere in `text`.
void holds(const std::string& text, std::string_view part);

/// Whole text of a file, or "errno NAME".
std::string slurp(const std::string& path);

/// Standard output of a program.
std::string output_of(const std::string& program);

}  // namespace berth::testing
