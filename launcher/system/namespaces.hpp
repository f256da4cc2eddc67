// Network namespaces: make, pin to a path, enter and leave.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

/// The calling thread's network namespace.
UniqueFd open_current_netns();

/// A new network namespace, owned by the caller's user namespace, with nothing but a loopback that is down. The calling
/// thread is where it was afterwards. Needs CAP_SYS_ADMIN; throws Error{host}.
UniqueFd create_netns();

/// Number of the namespace while it exists; numbers are reused after that.
std::uint64_t netns_inode(const UniqueFd& netns);

/// Number of the user namespace that owns `netns`; 0 if that is not the caller's or one made in it.
std::uint64_t netns_owner_inode(const UniqueFd& netns);
/// Number of the calling process's user namespace.
std::uint64_t current_user_namespace_inode();
/// Whether ids mean the same in the calling process's user namespace as on the host: its root is the machine's.
bool is_in_host_user_namespace();

/// Keeps `netns` alive under `path` (a bind mount over an empty file made here; it must not exist yet).
void pin_netns(const UniqueFd& netns, const std::string& path);
/// Undoes pin_netns, in whatever state a crash left it; whether there was anything.
bool unpin_netns(const std::string& path);
/// nullopt if `path` does not exist or is not a network namespace (the file without the mount).
std::optional<UniqueFd> open_pinned_netns(const std::string& path);

/// Puts the calling thread into a network namespace, and back at the end of the scope. If the way back is barred the
/// process is aborted: going on as root in the wrong network would be worse.
class NetnsGuard {
 public:
  explicit NetnsGuard(const UniqueFd& target);
  ~NetnsGuard();
  NetnsGuard(const NetnsGuard&) = delete;
  NetnsGuard& operator=(const NetnsGuard&) = delete;

 private:
  UniqueFd home_;
};

/// How many sockets of any family live in `netns`, whoever holds them and wherever the holder is. Orphans that TCP
/// still finishes count; sockets in TIME_WAIT do not. Source: /proc/net/sockstat, "sockets: used".
unsigned read_socket_count(const UniqueFd& netns);
/// The same for the calling thread's netns.
unsigned read_socket_count();

}  // namespace berth
