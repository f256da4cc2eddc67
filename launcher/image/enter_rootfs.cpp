#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/image/rootfs.hpp"
#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

void attach_at(int mount, const std::string& path) {
  const UniqueFd place(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!place) throw system_error(errno, fmt::format("cannot mount anything at '{}'", path), "open");
  attach_mount(mount, place.get());
}

void unshare_mounts() {
  if (unshare(CLONE_NEWNS) != 0) throw system_error(errno, "cannot make a mount namespace", "unshare");
}

}  // namespace

void enter_rootfs(int mount_ns_fd, bool shared) {
  if (setns(mount_ns_fd, CLONE_NEWNS) != 0)
    throw system_error(errno, "cannot enter the container's root", "setns",
                       errno == EINVAL ? "the calling process must be single-threaded" : "");
  if (!shared) {
    // Every mount of the template is a slave or private, and so is its copy: nothing can spread to the host.
    unshare_mounts();
    attach_at(create_sysfs().get(), "/sys");
  }
  if (chdir("/") != 0) throw system_error(errno, "cannot enter the container's root", "chdir");
}

void enter_host_tree() {
  unshare_mounts();
  make_namespace_slave();
  struct Submount {
    std::string path;
    UniqueFd mount;
  };
  std::vector<Submount> submounts;
  const auto entries = parse_mountinfo(read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 24));
  for (const MountEntry& entry : entries) {
    if (!entry.point.starts_with("/sys/")) continue;
    const auto is_parent_in_sys = [&](const MountEntry& other) {
      return other.id == entry.parent && other.point.starts_with("/sys/");
    };
    // Copied together with the mount it lies on.
    if (std::any_of(entries.begin(), entries.end(), is_parent_in_sys)) continue;
    const UniqueFd place(open(entry.point.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (place) submounts.push_back({entry.point, clone_mount(place.get(), true)});
  }
  // Replaced and not covered, so that nothing is listed twice; where /sys is no mount there is nothing to remove.
  if (umount2("/sys", MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL)
    throw system_error(errno, "cannot replace /sys", "umount2");
  attach_at(create_sysfs().get(), "/sys");
  for (const Submount& submount : submounts) {
    const UniqueFd place(open(submount.path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (place) attach_mount(submount.mount.get(), place.get());
  }
}

}  // namespace berth
