// Images: what the user named, opened with the user's rights and mounted once per node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "launcher/core/policy.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

enum class ImageFormat { directory, squashfs, sif };
std::string_view to_string(ImageFormat format);

/// An image that was found, allowed and recognised.
struct OpenImage {
  UniqueFd fd;       ///< the directory (O_PATH) or file (O_RDONLY), opened as the user
  std::string path;  ///< real path: absolute, no symlinks
  ImageFormat format = ImageFormat::directory;
  std::uint64_t offset = 0;       ///< bytes: where the squashfs begins in the file
  std::uint64_t size = 0;         ///< bytes: 0 for a directory
  bool kernel_mountable = false;  ///< trusted by policy, and whole sectors: the kernel may parse it, and can
};

/// Opens `path` with the user's rights (so that NFS root_squash and unreadable parents behave as for the user), and
/// recognises a file in a child process that has no others (so that no header is parsed as root), then checks the real
/// path and the trust rules of `policy`. Throws Error{image} (missing, not readable, not an image, corrupt: says which)
/// or Error{policy} (outside the allowed paths).
OpenImage open_image(const std::string& path, const std::string& working_directory, const Credentials& user,
                     const ImagePolicy& policy);

/// Mounts the image read-only, nosuid and nodev, as a detached mount in the calling process's mount namespace (attach
/// it with move_mount). squashfs: autoclear loop device, or squashfuse as the user where the kernel may not parse it,
/// in the control group that `cgroup` is of (join_cgroup()). Throws Error{image} if it is corrupt.
UniqueFd mount_image(const OpenImage& image, const Credentials& user, int cgroup = -1);

}  // namespace berth
