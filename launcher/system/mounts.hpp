// The kernel's file-descriptor mount interface (fsopen, open_tree, move_mount, mount_setattr) and resolution of paths
// inside a root. No decisions.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {

/// One fsconfig parameter; an empty value sets a flag.
using MountOption = std::pair<std::string, std::string>;

/// A new instance of file system `type` as a detached mount with MOUNT_ATTR_* `attributes`. Throws Error{host} with
/// what the file system itself said, where it said something.
UniqueFd create_mount(const std::string& type, const std::vector<MountOption>& options, std::uint64_t attributes);

/// A read-only sysfs that shows the network and RDMA devices of the calling thread's netns.
UniqueFd create_sysfs();

/// A detached copy of the mount at (or of the subtree below) an O_PATH descriptor of the caller's own mount namespace.
/// Throws Error{host}.
UniqueFd clone_mount(int fd, bool recursive);

/// Sets MOUNT_ATTR_* on a mount and, if `recursive`, on all below it; `propagation` is 0 or MS_SLAVE, MS_PRIVATE, …
/// Throws Error{host}.
void set_mount_attributes(int mount, std::uint64_t attributes, std::uint64_t propagation, bool recursive);

/// Attaches a detached mount on the object of the descriptor `target`. Throws Error{host}.
void attach_mount(int mount, int target);

/// Makes every mount of the calling process's namespace receive from, and never send to, the namespace it was copied
/// from. Throws Error{host}.
void make_namespace_slave();

/// Makes `root`, the topmost of the mounts stacked on "/", the root of the caller's mount namespace, and detaches the
/// former root and the `stacked` mounts between the two, with all that is mounted on them. Leaves the caller in "/".
/// Throws Error{host}.
void pivot_to(int root, int stacked);

/// Opens `path` below directory `root` as if it were "/": absolute symlinks and ".." stay inside, magic links of /proc
/// are refused. -1 and errno on failure; all three throw Error{host} where the kernel lacks openat2(2).
int open_in_root(int root, const std::string& path, int flags);
/// The same without any symlink on the way: ELOOP.
int open_in_root_without_links(int root, const std::string& path, int flags);
/// Opens a path of the host, refusing the magic links of /proc. -1 and errno on failure.
int open_host_path(const std::string& path, int flags);

/// Where the descriptor's object lies, as the kernel knows it. Throws Error{host} if it has no path (any more).
std::string read_path(int fd);

/// fstat, with errors thrown.
struct stat read_status(int fd, std::string_view name);

/// One line of /proc/self/mountinfo.
struct MountEntry {
  int id = 0;
  int parent = 0;
  std::string point;  ///< unescaped
  std::string type;
  std::string super_options;  ///< comma-separated
};
/// Lines that cannot be parsed are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

}  // namespace berth
