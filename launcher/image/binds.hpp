// What of the host's tree a rank sees: opened with the right user's rights and checked against the policy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/image/rootfs.hpp"

namespace berth {

/// A detached, restricted copy of a host mount that waits for its place in the rank's root.
struct Bind {
  std::string target;  ///< absolute, as asked for
  UniqueFd mount;
  bool is_directory = true;
};

/// Everything that is bound from the host: /tmp, /var/tmp, site mounts, home, working and runtime directories, the
/// user's mounts. Optional ones that do not exist are left out. In a child with a mount namespace of its own.
/// Throws Error{policy}, Error{usage} or Error{host} naming the mount.
std::vector<Bind> collect_binds(const RootfsRequest& request);

/// A detached copy of the mount (with all below it) at `fd`, which follows the host's mounts, with MOUNT_ATTR_*.
UniqueFd copy_from_host(int fd, std::uint64_t attributes);

/// Whether `path` is a place that a bind must not cover: "/", /etc itself, or anything in /proc, /sys or /dev.
bool is_reserved_target(const std::string& path);

}  // namespace berth
