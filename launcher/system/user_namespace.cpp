#include "launcher/system/user_namespace.hpp"

#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/system/fd.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/root_dir.hpp"

namespace berth {

UserNamespaceLimits read_user_namespace_limits() {
  const RootDir root("/");
  return {.most = root.read_number("proc/sys/user/max_user_namespaces"),
          .unprivileged = root.read_number("proc/sys/kernel/unprivileged_userns_clone"),
          .apparmor_restricts = root.read_number("proc/sys/kernel/apparmor_restrict_unprivileged_userns")};
}

std::optional<UserNamespaceObstacle> find_user_namespace_obstacle(const UserNamespaceLimits& limits) {
  if (limits.most == 0U)
    return UserNamespaceObstacle{"user.max_user_namespaces is 0",
                                 "sysctl -w user.max_user_namespaces=65536, and in /etc/sysctl.d"};
  if (limits.unprivileged == 0U)
    return UserNamespaceObstacle{"kernel.unprivileged_userns_clone is 0: only root may make user namespaces",
                                 "sysctl -w kernel.unprivileged_userns_clone=1, and in /etc/sysctl.d"};
  if (limits.apparmor_restricts == 1U)
    return UserNamespaceObstacle{
        "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor leaves users no rights in user namespaces",
        "give the program berth an AppArmor profile with `userns,`, or sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0, and in /etc/sysctl.d"};
  return std::nullopt;
}

void enter_new_user_namespace() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  try {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
      throw system_error(errno, "", "unshare(CLONE_NEWUSER | CLONE_NEWNS)",
                         errno == EPERM ? "it is forbidden in some containers, and in every chroot" : "");
    // Without this a user could drop a group that denies access; so the kernel asks for it before the map.
    write_control_file("/proc/self/setgroups", "deny");
    write_control_file("/proc/self/uid_map", fmt::format("{0} {0} 1", uid));
    write_control_file("/proc/self/gid_map", fmt::format("{0} {0} 1", gid));
    make_namespace_slave();
  } catch (Error& error) {
    error.what_text = "cannot make a user namespace";
    if (const auto obstacle = find_user_namespace_obstacle(read_user_namespace_limits())) {
      error.why += "; " + obstacle->why;
      error.fix = "administrator: " + obstacle->fix;
    }
    throw;
  }
}

void join_user_namespace_of(int mount_ns) {
  const std::string what = "cannot enter the container's root";
  const UniqueFd user_ns(ioctl(mount_ns, NS_GET_USERNS));
  if (!user_ns) throw system_error(errno, what, "ioctl(NS_GET_USERNS)");
  if (setns(user_ns.get(), CLONE_NEWUSER) != 0) throw system_error(errno, what, "setns(CLONE_NEWUSER)");
  if (setns(mount_ns, CLONE_NEWNS) != 0) throw system_error(errno, what, "setns(CLONE_NEWNS)");
}

}  // namespace berth
