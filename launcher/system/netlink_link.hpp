// Network devices through rtnetlink: look up, create, change, address, move.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"

struct nl_msg;
struct nl_sock;
struct nlmsghdr;

namespace berth {

/// A network device as the kernel describes it.
struct Link {
  unsigned index = 0;  ///< ifindex
  std::string name;
  MacAddress mac{};      ///< zero if the hardware address does not have six bytes (IPoIB)
  unsigned mtu = 0;      ///< bytes
  bool up = false;       ///< administratively (IFF_UP)
  bool carrier = false;  ///< IFF_LOWER_UP
  bool running = false;  ///< operationally up (IFF_RUNNING)
  std::string kind;      ///< "macvlan", "veth", "bridge"; empty for hardware
  unsigned master = 0;   ///< ifindex of the bridge or bond it belongs to; 0: none
  std::vector<std::string> altnames;
  bool operator==(const Link&) const = default;
};

/// What to change of a link, all in one message. With `netns` the link is moved there, under `name` if that is given.
struct LinkChange {
  std::optional<std::string> name = {};
  std::optional<bool> up = {};
  std::optional<unsigned> mtu = {};  ///< bytes
  std::optional<MacAddress> mac = {};
  int netns = -1;  ///< descriptor of the target netns; -1: stays
};

/// A macvlan in bridge mode that is to be created.
struct MacvlanSpec {
  std::string name;
  unsigned parent = 0;  ///< ifindex, in the socket's netns
  MacAddress mac{};
  unsigned mtu = 0;  ///< bytes; at most the parent's
  int netns = -1;    ///< descriptor of the netns to create it in
};

/// An rtnetlink socket. It speaks of the netns in which it was opened, wherever the thread goes later; while it is open
/// it counts as a socket of that netns. All functions throw Error{host} that names the device.
class LinkSocket {
 public:
  LinkSocket();  ///< in the calling thread's netns
  /// In `netns`; needs CAP_SYS_ADMIN.
  static LinkSocket in_netns(const UniqueFd& netns);

  [[nodiscard]] std::optional<Link> find(const std::string& name);
  [[nodiscard]] std::optional<Link> find(unsigned index);
  [[nodiscard]] std::vector<Link> list();

  void create_macvlan(const MacvlanSpec& spec);
  void change(const Link& link, const LinkChange& change);
  void remove(const Link& link);

  /// Addresses of the link, without those that the kernel makes by itself (IPv6 link-local and autoconfigured).
  [[nodiscard]] std::vector<IpPrefix> addresses(const Link& link);
  /// IPv6 without duplicate address detection, so that it can be used at once.
  void add_address(const Link& link, const IpPrefix& address);
  void remove_address(const Link& link, const IpPrefix& address);
  void add_default_route(const Link& link, const IpPrefix& gateway);

  /// Waits for the link to be operationally up, by netlink events. False after `timeout_ms` without.
  bool wait_until_running(const Link& link, int timeout_ms);

 private:
  struct Free {
    void operator()(nl_sock* socket) const;
  };
  using OnMessage = std::function<void(nlmsghdr*)>;

  [[nodiscard]] std::optional<Link> find(unsigned index, const std::string& name);
  int transact(nl_msg* message, const OnMessage& on_message);
  int dump(const std::function<nl_msg*()>& make_message, const std::function<void()>& restart,
           const OnMessage& on_message);
  int receive(unsigned sequence, bool is_dump, const OnMessage& on_message);
  void apply(nl_msg* message, std::string what);
  void change_address(const Link& link, const IpPrefix& address, int type, int flags, std::string_view verb);

  std::unique_ptr<nl_sock, Free> socket_;
  std::string kernel_words_;  ///< the extended acknowledgement of the last error
};

}  // namespace berth
