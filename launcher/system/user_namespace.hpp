// User namespaces of ordinary users: whether the node lets them make one, making one, joining one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace berth {

/// What the kernel's settings say; empty: it does not have the setting.
struct UserNamespaceLimits {
  std::optional<std::uint64_t> most;          ///< user.max_user_namespaces
  std::optional<std::uint64_t> unprivileged;  ///< kernel.unprivileged_userns_clone; 0: root's only
  std::optional<std::uint64_t>
      apparmor_restricts;  ///< kernel.apparmor_restrict_unprivileged_userns; 1: no rights in it
  bool operator==(const UserNamespaceLimits&) const = default;
};
UserNamespaceLimits read_user_namespace_limits();

/// Why users cannot make user namespaces, and what an administrator can do about it.
struct UserNamespaceObstacle {
  std::string why;
  std::string fix;
  bool operator==(const UserNamespaceObstacle&) const = default;
};
/// nullopt: the settings do not stand in the way.
std::optional<UserNamespaceObstacle> find_user_namespace_obstacle(const UserNamespaceLimits& limits);

/// Moves the calling process, which must have one thread, into a user namespace of its own that knows its user and
/// group by their own numbers and no others, and into a mount namespace of that, which gives nothing back to the
/// host's. It has all capabilities there, and none on the host. user_namespaces(7). Throws Error{host} that names the
/// setting that forbids it.
void enter_new_user_namespace();

/// Moves the calling process, which must have one thread, into the mount namespace `mount_ns` (an nsfs descriptor) and
/// the user namespace that owns it, which a process of the same user has made. ioctl_ns(2). Throws Error{host}.
void join_user_namespace_of(int mount_ns);

}  // namespace berth
