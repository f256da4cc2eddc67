// Network devices through rtnetlink: look up, create, change, address, move.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/netlink_socket.hpp"

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

/// An rtnetlink socket (see NetlinkSocket for which netns it speaks of). All functions throw Error{host} that names the
/// device.
class LinkSocket {
 public:
  LinkSocket();  ///< in the calling thread's netns
  /// In `netns`; needs CAP_SYS_ADMIN.
  static LinkSocket in_netns(const UniqueFd& netns);

  [[nodiscard]] std::optional<Link> find(const std::string& name);
  [[nodiscard]] std::optional<Link> find(unsigned index);
  /// find(), but throws if there is none.
  [[nodiscard]] Link get(const std::string& name);
  [[nodiscard]] std::vector<Link> list();

  void create_macvlan(const MacvlanSpec& spec);
  void change(const Link& link, const LinkChange& change);
  void remove(const Link& link);

  /// Addresses of the link, without those that the kernel makes by itself (IPv6 link-local and autoconfigured).
  /// `without_broadcast` gets those of them that have no broadcast address.
  [[nodiscard]] std::vector<IpPrefix> addresses(const Link& link, std::vector<IpPrefix>* without_broadcast = nullptr);
  /// IPv4 with the broadcast address of its network, if `broadcast`; IPv6 without duplicate address detection, so that
  /// it can be used at once.
  void add_address(const Link& link, const IpPrefix& address, bool broadcast = true);
  void remove_address(const Link& link, const IpPrefix& address);
  void add_default_route(const Link& link, const IpPrefix& gateway);

  /// Looks at `is_true` now and after every change of any link. False if it never was true in `timeout_ms`.
  bool wait_until(const std::function<bool()>& is_true, int timeout_ms);
  /// Waits for the link to be operationally up. False after `timeout_ms` without.
  bool wait_until_running(const Link& link, int timeout_ms);

 private:
  [[nodiscard]] std::optional<Link> find(unsigned index, const std::string& name);
  void apply(nl_msg* message, std::string what);
  void change_address(const Link& link, const IpPrefix& address, int type, bool broadcast);

  NetlinkSocket socket_;
};

}  // namespace berth
