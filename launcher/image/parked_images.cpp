#include "launcher/image/parked_images.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/core/error.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/root_dir.hpp"

namespace berth {

namespace {

std::string directory_in(const std::string& state_directory) { return state_directory + "/images"; }

std::string key_of(const struct stat& file) {
  return fmt::format("{:x}-{:x}-{}.{:09}", file.st_dev, file.st_ino, file.st_ctim.tv_sec, file.st_ctim.tv_nsec);
}

/// Root of the file system that is mounted there; an empty descriptor if none is.
UniqueFd open_parked(const std::string& state_directory, const std::string& key) {
  const std::string place = directory_in(state_directory) + '/' + key;
  UniqueFd root(open(place.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct statfs status {};
  if (!root || fstatfs(root.get(), &status) != 0 || status.f_type != SQUASHFS_MAGIC) return {};
  return root;
}

/// The directory, made where it is missing; nobody else changes what is in it meanwhile.
UniqueFd lock_directory(const std::string& state_directory) {
  const std::string path = directory_in(state_directory);
  for (const auto& [directory, mode] : {std::pair{&state_directory, 0755U}, {&path, 0700U}})
    if (mkdir(directory->c_str(), mode) != 0 && errno != EEXIST)
      throw system_error(errno, "cannot park images", fmt::format("mkdir {}", *directory));
  UniqueFd locked(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!locked) throw system_error(errno, "cannot park images", fmt::format("open {}", path));
  while (flock(locked.get(), LOCK_EX) != 0)
    if (errno != EINTR) throw system_error(errno, "cannot park images", "flock");
  return locked;
}

}  // namespace

std::string parking_key(const OpenImage& image) { return key_of(read_status(image.fd.get(), image.path)); }

bool park_image(const std::string& state_directory, const OpenImage& image) {
  const std::string what = fmt::format("cannot park image '{}'", image.path);
  if (image.format == ImageFormat::directory)
    throw Error(ErrorCode::usage, what, "it is a directory, which is mounted by nobody, and needs no parking",
                "take it out of `parked` in [images] of the policy");
  if (!image.kernel_mountable)
    throw Error(ErrorCode::policy, what,
                "the kernel mounts only images that root alone can write, file and directories above it, that end with "
                "a whole sector, and only where kernel_mount allows it",
                "see `berth doctor`; let root own it (chown root, chmod go-w), or make it without mksquashfs -nopad");
  const UniqueFd locked = lock_directory(state_directory);
  const std::string key = parking_key(image);
  if (open_parked(state_directory, key)) return false;
  const std::string place = directory_in(state_directory) + '/' + key;
  if (mkdir(place.c_str(), 0700) != 0 && errno != EEXIST)
    throw system_error(errno, what, fmt::format("mkdir {}", place));
  try {
    const UniqueFd mount = mount_image(image, {0, 0, {}});
    const UniqueFd target(open(place.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!target) throw system_error(errno, what, fmt::format("open {}", place));
    attach_mount(mount.get(), target.get());
  } catch (const Error&) {
    rmdir(place.c_str());
    throw;
  }
  return true;
}

UniqueFd clone_parked_image(const std::string& state_directory, const OpenImage& image) {
  if (image.format == ImageFormat::directory || !image.kernel_mountable) return {};
  const UniqueFd root = open_parked(state_directory, parking_key(image));
  if (!root) return {};
  try {
    UniqueFd mount = clone_mount(root.get(), false);
    // What a run mounts on its copy must not come to be on all others.
    set_mount_attributes(mount.get(), 0, MS_PRIVATE, false);
    return mount;
  } catch (const Error&) {  // it has just been unparked
    return {};
  }
}

bool is_parked(const std::string& state_directory, const std::string& path) {
  struct stat file {};
  return stat(path.c_str(), &file) == 0 && open_parked(state_directory, key_of(file));
}

std::vector<ParkedImage> read_parked_images(const std::string& state_directory) {
  const RootDir host("/");
  std::vector<ParkedImage> images;
  for (const std::string& key : host.list(directory_in(state_directory))) {
    const UniqueFd root = open_parked(state_directory, key);
    struct stat status {};
    if (!root || fstat(root.get(), &status) != 0) continue;
    std::string path =
        host.read_text(fmt::format("sys/dev/block/{}:{}/loop/backing_file", major(status.st_dev), minor(status.st_dev)))
            .value_or("");
    if (constexpr std::string_view kDeleted = " (deleted)"; path.ends_with(kDeleted))
      path.resize(path.size() - kDeleted.size());
    images.push_back({key, std::move(path)});
  }
  std::ranges::sort(images, {}, &ParkedImage::path);
  return images;
}

void unpark_image(const std::string& state_directory, const ParkedImage& image) {
  const UniqueFd locked = lock_directory(state_directory);
  const std::string place = directory_in(state_directory) + '/' + image.key;
  if ((umount2(place.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) ||
      (rmdir(place.c_str()) != 0 && errno != ENOENT))
    throw system_error(errno, fmt::format("cannot unpark image '{}'", image.path), fmt::format("umount {}", place));
}

}  // namespace berth
