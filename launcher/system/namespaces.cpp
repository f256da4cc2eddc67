#include "launcher/system/namespaces.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <sstream>

namespace berth {

namespace {
constexpr const char* kOwnNetns = "/proc/thread-self/ns/net";
}

UniqueFd open_current_netns() {
  UniqueFd fd(open(kOwnNetns, O_RDONLY | O_CLOEXEC));
  if (!fd) throw system_error(errno, "cannot open the own network namespace", "open", "mount /proc");
  return fd;
}

UniqueFd create_netns() {
  const UniqueFd home = open_current_netns();
  if (unshare(CLONE_NEWNET) != 0) {
    const int error_number = errno;
    throw system_error(error_number, "cannot make a network namespace", "unshare",
                       error_number == ENOSPC  ? "raise user.max_net_namespaces"
                       : error_number == EPERM ? "run as root (CAP_SYS_ADMIN is needed)"
                                               : "");
  }
  UniqueFd made(open(kOwnNetns, O_RDONLY | O_CLOEXEC));
  const int error_number = errno;
  if (setns(home.get(), CLONE_NEWNET) != 0) std::abort();
  if (!made) throw system_error(error_number, "cannot make a network namespace", "open");
  return made;
}

std::uint64_t netns_inode(const UniqueFd& netns) {
  struct stat status {};
  if (fstat(netns.get(), &status) != 0) throw system_error(errno, "cannot identify a network namespace", "fstat");
  return status.st_ino;
}

std::uint64_t netns_owner_inode(const UniqueFd& netns) {
  const UniqueFd owner(ioctl(netns.get(), NS_GET_USERNS));
  if (!owner && errno == EPERM) return 0;
  struct stat status {};
  if (!owner || fstat(owner.get(), &status) != 0)
    throw system_error(errno, "cannot tell who owns a network namespace", "ioctl NS_GET_USERNS");
  return status.st_ino;
}

std::uint64_t current_user_namespace_inode() {
  struct stat status {};
  if (stat("/proc/self/ns/user", &status) != 0)
    throw system_error(errno, "cannot identify the own user namespace", "stat");
  return status.st_ino;
}

bool is_in_host_user_namespace() {
  std::istringstream map(read_file(AT_FDCWD, "/proc/self/uid_map"));
  std::uint64_t inside = 1;
  std::uint64_t outside = 1;
  std::uint64_t count = 0;
  map >> inside >> outside >> count;
  return inside == 0 && outside == 0 && count == std::numeric_limits<std::uint32_t>::max();
}

void pin_netns(const UniqueFd& netns, const std::string& path) {
  const std::string what = fmt::format("cannot pin a network namespace at '{}'", path);
  {
    const UniqueFd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) throw system_error(errno, what, "open");
  }
  const std::string source = fmt::format("/proc/thread-self/fd/{}", netns.get());
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    const int error_number = errno;
    unlink(path.c_str());
    throw system_error(error_number, what, "mount");
  }
}

bool unpin_netns(const std::string& path) {
  // Repeated, because mounts may have been stacked; EINVAL says that nothing is mounted there any more.
  while (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  if (errno != EINVAL && errno != ENOENT)
    throw system_error(errno, fmt::format("cannot unpin the network namespace '{}'", path), "umount");
  if (unlink(path.c_str()) == 0) return true;
  if (errno != ENOENT)
    throw system_error(errno, fmt::format("cannot unpin the network namespace '{}'", path), "unlink");
  return false;
}

std::optional<UniqueFd> open_pinned_netns(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    throw system_error(errno, fmt::format("cannot open the network namespace '{}'", path), "open");
  }
  struct statfs status {};
  if (fstatfs(fd.get(), &status) != 0)
    throw system_error(errno, fmt::format("cannot open the network namespace '{}'", path), "fstatfs");
  if (status.f_type != NSFS_MAGIC || ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) return std::nullopt;
  return fd;
}

NetnsGuard::NetnsGuard(const UniqueFd& target) : home_(open_current_netns()) {
  if (setns(target.get(), CLONE_NEWNET) != 0) throw system_error(errno, "cannot enter a network namespace", "setns");
}

NetnsGuard::~NetnsGuard() {
  if (setns(home_.get(), CLONE_NEWNET) != 0) std::abort();
}

unsigned read_socket_count() {
  const std::string text = read_file(AT_FDCWD, "/proc/thread-self/net/sockstat");
  constexpr std::string_view kPrefix = "sockets: used ";
  unsigned count = 0;
  const char* begin = text.data() + kPrefix.size();
  if (!text.starts_with(kPrefix) || std::from_chars(begin, text.data() + text.size(), count).ec != std::errc())
    throw Error(ErrorCode::host, "cannot count the sockets of a network namespace",
                "/proc/net/sockstat does not begin with 'sockets: used'");
  return count;
}

unsigned read_socket_count(const UniqueFd& netns) {
  const NetnsGuard inside(netns);
  return read_socket_count();
}

}  // namespace berth
