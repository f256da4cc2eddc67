#include "launcher/system/netlink_link.hpp"

#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "launcher/system/namespaces.hpp"

// linux/if.h and net/if.h cannot be included together; this flag is only in the former.
#ifndef IFF_LOWER_UP
#define IFF_LOWER_UP 0x10000
#endif

namespace berth {

namespace {

constexpr int kRetries = 8;

ifinfomsg link_header(unsigned index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  return header;
}

std::size_t address_size(const IpPrefix& address) { return address.family == IpPrefix::Family::v4 ? 4 : 16; }
unsigned char address_family(const IpPrefix& address) {
  return address.family == IpPrefix::Family::v4 ? AF_INET : AF_INET6;
}

Link parse_link(nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  Link link;
  link.index = static_cast<unsigned>(info->ifi_index);
  link.up = (info->ifi_flags & IFF_UP) != 0;
  link.running = (info->ifi_flags & IFF_RUNNING) != 0;
  link.carrier = (info->ifi_flags & IFF_LOWER_UP) != 0;
  nlattr* attributes[IFLA_MAX + 1] = {};
  nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr);
  if (attributes[IFLA_IFNAME]) link.name = parse_netlink_text(attributes[IFLA_IFNAME]);
  if (attributes[IFLA_MTU]) link.mtu = nla_get_u32(attributes[IFLA_MTU]);
  if (attributes[IFLA_MASTER]) link.master = nla_get_u32(attributes[IFLA_MASTER]);
  if (const nlattr* mac = attributes[IFLA_ADDRESS]; mac && nla_len(mac) == static_cast<int>(link.mac.size()))
    std::memcpy(link.mac.data(), nla_data(mac), link.mac.size());
  if (attributes[IFLA_LINKINFO])
    if (const nlattr* kind = nla_find(static_cast<nlattr*>(nla_data(attributes[IFLA_LINKINFO])),
                                      nla_len(attributes[IFLA_LINKINFO]), IFLA_INFO_KIND))
      link.kind = parse_netlink_text(kind);
  if (const nlattr* list = attributes[IFLA_PROP_LIST]) {
    int left = nla_len(list);
    for (auto* name = static_cast<nlattr*>(nla_data(list)); nla_ok(name, left); name = nla_next(name, &left))
      if (nla_type(name) == IFLA_ALT_IFNAME) link.altnames.push_back(parse_netlink_text(name));
  }
  return link;
}

/// nullopt for addresses that the kernel made and will make again.
std::optional<IpPrefix> parse_address(nlmsghdr* header, unsigned index) {
  const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
  if (info->ifa_index != index || (info->ifa_family != AF_INET && info->ifa_family != AF_INET6)) return std::nullopt;
  nlattr* attributes[IFA_MAX + 1] = {};
  nlmsg_parse(header, sizeof(ifaddrmsg), attributes, IFA_MAX, nullptr);
  const unsigned flags = attributes[IFA_FLAGS] ? nla_get_u32(attributes[IFA_FLAGS]) : info->ifa_flags;
  IpPrefix address;
  address.prefix_length = info->ifa_prefixlen;
  if (info->ifa_family == AF_INET6) {
    address.family = IpPrefix::Family::v6;
    if (info->ifa_scope == RT_SCOPE_LINK || !(flags & IFA_F_PERMANENT)) return std::nullopt;
  }
  const nlattr* bytes = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
  if (!bytes || nla_len(bytes) < static_cast<int>(address_size(address))) return std::nullopt;
  std::memcpy(address.bytes.data(), nla_data(bytes), address_size(address));
  return address;
}

const char* choose_fix(int error_number) {
  switch (error_number) {
    case EPERM:
      return "run as root (CAP_NET_ADMIN over the network namespace is needed)";
    case ENODEV:
      return "the device has vanished; check that its driver is still bound";
    case EBUSY:
    case EADDRINUSE:
      return "another macvlan of the same parent may have its MAC address, in a network namespace that is kept alive";
    case EEXIST:
      return "another device has that name there already; rename it";
    default:
      return "";
  }
}

}  // namespace

LinkSocket::LinkSocket() : socket_(NETLINK_ROUTE) {}

LinkSocket LinkSocket::in_netns(const UniqueFd& netns) {
  const NetnsGuard inside(netns);
  return {};
}

void LinkSocket::apply(nl_msg* message, std::string what) {
  const int error_number = socket_.transact(message, {});
  if (error_number == 0) return;
  throw system_error(error_number, std::move(what), socket_.origin(), choose_fix(error_number));
}

std::optional<Link> LinkSocket::find(unsigned index, const std::string& name) {
  std::optional<Link> found;
  int error_number = 0;
  for (int attempt = 0; attempt < kRetries; ++attempt) {
    const NetlinkMessage message = make_netlink_message(RTM_GETLINK, 0, link_header(index));
    if (index == 0) put(message, IFLA_IFNAME, name);
    error_number = socket_.transact(message.get(), [&](nlmsghdr* header) { found = parse_link(header); });
    if (error_number != ENOBUFS) break;
  }
  if (error_number == ENODEV) return std::nullopt;
  if (error_number != 0)
    throw system_error(error_number,
                       fmt::format("cannot look up network device '{}'", index ? std::to_string(index) : name),
                       "netlink");
  // By name the kernel also finds alternative names; the caller means the device's own.
  if (index == 0 && found && found->name != name) return std::nullopt;
  return found;
}

std::optional<Link> LinkSocket::find(const std::string& name) {
  return is_interface_name(name) ? find(0, name) : std::nullopt;
}
std::optional<Link> LinkSocket::find(unsigned index) { return index ? find(index, {}) : std::nullopt; }

Link LinkSocket::get(const std::string& name) {
  auto link = find(name);
  if (!link)
    throw Error(ErrorCode::host, fmt::format("cannot find network device '{}'", name), "it has vanished meanwhile");
  return *std::move(link);
}

std::vector<Link> LinkSocket::list() {
  std::vector<Link> links;
  const int error_number =
      socket_.dump([] { return make_netlink_message(RTM_GETLINK, NLM_F_DUMP, link_header(0)); }, [&] { links.clear(); },
                   [&](nlmsghdr* header) { links.push_back(parse_link(header)); });
  if (error_number != 0) throw system_error(error_number, "cannot list network devices", "netlink");
  return links;
}

void LinkSocket::create_macvlan(const MacvlanSpec& spec) {
  const NetlinkMessage message = make_netlink_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0));
  put(message, IFLA_IFNAME, spec.name);
  put(message, IFLA_LINK, spec.parent);
  put(message, IFLA_ADDRESS, spec.mac.data(), spec.mac.size());
  put(message, IFLA_MTU, spec.mtu);
  put(message, IFLA_NET_NS_FD, static_cast<unsigned>(spec.netns));
  nlattr* info = nla_nest_start(message.get(), IFLA_LINKINFO);
  put(message, IFLA_INFO_KIND, std::string("macvlan"));
  nlattr* data = nla_nest_start(message.get(), IFLA_INFO_DATA);
  put(message, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
  nla_nest_end(message.get(), data);
  nla_nest_end(message.get(), info);
  apply(message.get(), fmt::format("cannot create macvlan '{}'", spec.name));
}

void LinkSocket::change(const Link& link, const LinkChange& change) {
  ifinfomsg header = link_header(link.index);
  if (change.up) {
    header.ifi_change = IFF_UP;
    header.ifi_flags = *change.up ? IFF_UP : 0;
  }
  const NetlinkMessage message = make_netlink_message(RTM_NEWLINK, 0, header);
  if (change.name) put(message, IFLA_IFNAME, *change.name);
  if (change.mtu) put(message, IFLA_MTU, *change.mtu);
  if (change.mac) put(message, IFLA_ADDRESS, change.mac->data(), change.mac->size());
  if (change.netns >= 0) put(message, IFLA_NET_NS_FD, static_cast<unsigned>(change.netns));
  std::string what;
  if (change.netns >= 0)
    what = fmt::format("cannot move '{}' into another network namespace as '{}'", link.name,
                       change.name.value_or(link.name));
  else if (change.mtu)
    what = fmt::format("cannot set the MTU of '{}' to {}", link.name, *change.mtu);
  else if (change.up)
    what = fmt::format("cannot bring '{}' {}", link.name, *change.up ? "up" : "down");
  else
    what = fmt::format("cannot change '{}'", link.name);
  apply(message.get(), std::move(what));
}

void LinkSocket::remove(const Link& link) {
  const NetlinkMessage message = make_netlink_message(RTM_DELLINK, 0, link_header(link.index));
  apply(message.get(), fmt::format("cannot delete network device '{}'", link.name));
}

std::vector<IpPrefix> LinkSocket::addresses(const Link& link, std::vector<IpPrefix>* without_broadcast) {
  std::vector<IpPrefix> found;
  const int error_number =
      socket_.dump([] { return make_netlink_message(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{}); },
                   [&] {
                     found.clear();
                     if (without_broadcast) without_broadcast->clear();
                   },
                   [&](nlmsghdr* header) {
                     const auto address = parse_address(header, link.index);
                     if (!address) return;
                     found.push_back(*address);
                     if (without_broadcast && !nlmsg_find_attr(header, sizeof(ifaddrmsg), IFA_BROADCAST))
                       without_broadcast->push_back(*address);
                   });
  if (error_number != 0)
    throw system_error(error_number, fmt::format("cannot list the addresses of '{}'", link.name), "netlink");
  return found;
}

void LinkSocket::change_address(const Link& link, const IpPrefix& address, int type, bool broadcast) {
  ifaddrmsg header{};
  header.ifa_family = address_family(address);
  header.ifa_prefixlen = address.prefix_length;
  header.ifa_index = link.index;
  const bool v4 = address.family == IpPrefix::Family::v4;
  if (!v4 && type == RTM_NEWADDR) header.ifa_flags = IFA_F_NODAD;
  const NetlinkMessage message =
      make_netlink_message(type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_EXCL : 0, header);
  put(message, IFA_LOCAL, address.bytes.data(), address_size(address));
  put(message, IFA_ADDRESS, address.bytes.data(), address_size(address));
  if (v4 && broadcast && address.prefix_length < 31) {
    std::array<std::uint8_t, 4> last{};
    for (unsigned bit = 0; bit < 32; ++bit) {
      const auto mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
      if (bit >= address.prefix_length || (address.bytes[bit / 8] & mask))
        last[bit / 8] = static_cast<std::uint8_t>(last[bit / 8] | mask);
    }
    put(message, IFA_BROADCAST, last.data(), last.size());
  }
  const bool add = type == RTM_NEWADDR;
  const std::string what =
      fmt::format("cannot {} '{}' {} '{}'", add ? "add" : "remove", to_string(address), add ? "to" : "from", link.name);
  const int error_number = socket_.transact(message.get(), {});
  if (error_number == 0) return;
  if (!v4 && (error_number == EACCES || error_number == EPERM || error_number == EOPNOTSUPP))
    throw Error(ErrorCode::host, what, "IPv6 is disabled in the kernel or by net.ipv6.conf.*.disable_ipv6",
                "enable IPv6, or remove the IPv6 range from the pool's addresses");
  throw system_error(error_number, what, socket_.origin(), error_number == EEXIST ? "" : choose_fix(error_number));
}

void LinkSocket::add_address(const Link& link, const IpPrefix& address, bool broadcast) {
  change_address(link, address, RTM_NEWADDR, broadcast);
}
void LinkSocket::remove_address(const Link& link, const IpPrefix& address) {
  change_address(link, address, RTM_DELADDR, false);
}

void LinkSocket::add_default_route(const Link& link, const IpPrefix& gateway) {
  rtmsg header{};
  header.rtm_family = address_family(gateway);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  const NetlinkMessage message = make_netlink_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, header);
  put(message, RTA_GATEWAY, gateway.bytes.data(), address_size(gateway));
  put(message, RTA_OIF, link.index);
  apply(message.get(), fmt::format("cannot route from '{}' through gateway {}", link.name, address_to_string(gateway)));
}

bool LinkSocket::wait_until(const std::function<bool()>& is_true, int timeout_ms) {
  if (is_true()) return true;
  if (!socket_.join(RTNLGRP_LINK)) return false;
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  bool holds = is_true();  // again: it may have become true before the membership
  while (!holds) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd event{socket_.fd(), POLLIN, 0};
    if (left <= 0 || ::poll(&event, 1, static_cast<int>(left)) == 0) break;
    char drained[65536];
    // What the event says does not matter (it may even have been dropped): the state is asked for.
    while (recv(socket_.fd(), drained, sizeof drained, MSG_DONTWAIT) > 0) {
    }
    holds = is_true();
  }
  socket_.leave(RTNLGRP_LINK);
  return holds;
}

bool LinkSocket::wait_until_running(const Link& link, int timeout_ms) {
  const auto is_running = [&] {
    const auto now = find(link.index);
    return now && now->running;
  };
  return wait_until(is_running, timeout_ms);
}

}  // namespace berth
