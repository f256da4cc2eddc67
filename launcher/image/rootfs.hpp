// The rank's root file system, built once per step in a mount namespace of its own (the template): image, /proc, /dev,
// shared /dev/shm and /tmp, home, user and resolver files, site and user mounts. A rank joins it, and where something
// differs per rank, unshares and adds that. Copying this small namespace is cheaper than copying the host's, works on
// every kernel that has the new mount API, and leaves nothing to unmount: it dies with its last process and descriptor.
#pragma once

#include <string>
#include <vector>

#include "launcher/core/policy.hpp"
#include "launcher/core/request.hpp"
#include "launcher/image/device_tree.hpp"
#include "launcher/image/image.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

struct RootfsRequest {
  const OpenImage* image = nullptr;
  const UniqueFd* image_mount = nullptr;  ///< from mount_image(), if that was done ahead
  Credentials user;
  std::string user_name;
  std::string home;                              ///< from the user database; "" if unknown
  std::string working_directory;                 ///< the job's
  std::vector<MountRequest> mounts;              ///< the user's, to be checked against `policy`
  std::vector<std::string> runtime_directories;  ///< directories that the launcher's PMIx server shares with its ranks
  std::vector<std::string> session_directories;  ///< the same as the user's environment says: left out unless theirs
  const MountPolicy* policy = nullptr;
  /// The caller is in a user namespace (enter_new_user_namespace()), where nobody can make /dev, /proc and /sys anew:
  /// they are the host's, with what its file permissions allow.
  bool host_trees = false;
  bool shared = false;  ///< the ranks stay in the caller's network namespace: they share the template, with its /sys
  std::vector<DeviceNode> devices = {};  ///< for /dev, besides those of the policy
};

/// Builds the template in a child process and returns its mount namespace (an nsfs descriptor for setns). The root of
/// that namespace is the rank's root; the host's tree is not in it. User paths are opened with the user's rights;
/// targets are resolved inside the image, never outside. Targets that the image lacks are provided by a read-only
/// overlay. Throws Error{policy} for a mount that is not allowed, Error{image}, Error{host}.
UniqueFd build_rootfs(const RootfsRequest& request);

/// Moves the calling process into the template and goes to "/". Where it is not `shared`, into a copy that is its own,
/// with a fresh /sys that shows the network namespace the caller has joined *before*. For a single-threaded process
/// with CAP_SYS_ADMIN and CAP_SYS_CHROOT (a forked child of slurmstepd will do). Throws Error{host}; the process must
/// then end.
void enter_rootfs(int mount_ns_fd, bool shared);

/// The same for a rank without an image: the host's tree in a mount namespace of its own, which follows the host's
/// mounts and gives none back, with a fresh /sys under the old one's submounts (/sys/fs/cgroup, …). Keeps the working
/// directory. Throws Error{host}.
void enter_host_tree();

}  // namespace berth
