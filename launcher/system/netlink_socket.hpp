// A netlink socket: a request, its answers, its acknowledgement. What messages mean is netlink_link's, netlink_vf's …
// business.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

struct nl_msg;
struct nl_sock;
struct nlattr;
struct nlmsghdr;

namespace berth {

struct FreeNetlinkMessage {
  void operator()(nl_msg* message) const;
};
using NetlinkMessage = std::unique_ptr<nl_msg, FreeNetlinkMessage>;

/// A request without attributes. `header` is what the message type begins with (ifinfomsg, ifaddrmsg …); may be empty.
NetlinkMessage make_netlink_message(int type, int flags, const void* header, std::size_t size);
template <typename Header>
NetlinkMessage make_netlink_message(int type, int flags, const Header& header) {
  return make_netlink_message(type, flags, &header, sizeof header);
}

/// Appends an attribute; text with its terminating zero.
void put(const NetlinkMessage& message, int attribute, const void* data, std::size_t size);
void put(const NetlinkMessage& message, int attribute, unsigned value);
void put(const NetlinkMessage& message, int attribute, const std::string& text);

/// The text of an attribute, with or without a terminating zero.
std::string parse_netlink_text(const nlattr* attribute);

/// It speaks of the netns in which it was opened, wherever the thread goes later; while it is open it counts as a
/// socket of that netns.
class NetlinkSocket {
 public:
  using OnMessage = std::function<void(nlmsghdr*)>;

  /// In the calling thread's netns. `protocol`: NETLINK_ROUTE, NETLINK_RDMA. Throws Error{host}.
  explicit NetlinkSocket(int protocol);

  /// Sends a request and hands each message of the answer to `on_message`. Returns 0 or errno; EINTR and ENOBUFS say
  /// that a dump is incomplete.
  int transact(nl_msg* message, const OnMessage& on_message);
  /// transact() of a dump, again until it is complete; `restart` forgets what an incomplete one said.
  int dump(const std::function<NetlinkMessage()>& make, const std::function<void()>& restart,
           const OnMessage& on_message);
  /// Where an error came from, as system_error() wants it: with the kernel's own words if it had any.
  [[nodiscard]] std::string origin() const;

  /// Events of `group` (RTNLGRP_LINK …) arrive on fd() between these two. Whether the kernel has the group.
  bool join(int group);
  void leave(int group);
  [[nodiscard]] int fd() const;

 private:
  struct Free {
    void operator()(nl_sock* socket) const;
  };
  int receive(unsigned sequence, bool is_dump, const OnMessage& on_message);

  std::unique_ptr<nl_sock, Free> socket_;
  std::unique_ptr<char[]> buffer_;
  std::string kernel_words_;  // the extended acknowledgement of the last error
};

}  // namespace berth
