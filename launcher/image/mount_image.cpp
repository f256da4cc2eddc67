#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>

#include "launcher/image/image.hpp"
#include "launcher/image/squashfuse.hpp"
#include "launcher/system/loop.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/namespaces.hpp"

namespace berth {

namespace {

constexpr std::uint64_t kAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

UniqueFd mount_by_kernel(const OpenImage& image) {
  const LoopDevice loop = attach_loop(image.fd.get(), image.offset, round_up_to_sector(image.size), image.path);
  try {
    return create_mount("squashfs", {{"source", loop.path}, {"ro", ""}}, kAttributes);
  } catch (Error& error) {
    error.code = ErrorCode::image;
    error.what_text = fmt::format("cannot mount image '{}'", image.path);
    if (error.fix.empty())
      error.fix = "the image is corrupt, or made with a compressor that this kernel lacks: build it again with gzip";
    throw;
  }
}

UniqueFd mount_directory(const OpenImage& image) {
  // Not recursive: whatever the host has mounted below the image is not part of it. But a user namespace must not
  // uncover what those mounts hide.
  const bool recursive = !is_in_host_user_namespace();
  UniqueFd mount = clone_mount(image.fd.get(), recursive);
  set_mount_attributes(mount.get(), kAttributes, MS_PRIVATE, recursive);
  return mount;
}

}  // namespace

UniqueFd mount_image(const OpenImage& image, const Credentials& user, int cgroup) {
  if (image.format == ImageFormat::directory) return mount_directory(image);
  if (image.kernel_mountable) return mount_by_kernel(image);
  return mount_with_squashfuse(image, user, cgroup);
}

}  // namespace berth
