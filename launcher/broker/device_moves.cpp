#include "launcher/broker/device_moves.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "launcher/core/hardware_addresses.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"

namespace berth {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// The netdev of the device in the host's netns: of the PCI function if the berth has one, else `parent` itself. Empty
/// if it is not on the host now.
std::string read_host_netdev(const BerthSpec& berth) {
  if (!berth.pci) return berth.parent;
  std::error_code error;
  const std::filesystem::directory_iterator entry(fmt::format("/sys/bus/pci/devices/{}/net", to_string(*berth.pci)),
                                                  error);
  return error || entry == std::filesystem::directory_iterator() ? std::string{} : entry->path().filename().string();
}

Error vanished(const BerthSpec& berth) {
  return {ErrorCode::host,
          fmt::format("cannot find the network device of {}", berth.pci ? to_string(*berth.pci) : berth.parent),
          "it is neither on the host nor in its berth",
          "check that its driver is bound; a namespace that still has it gives it back when its last process ends"};
}

/// The parent of a macvlan; throws if the berth would have no link.
Link require_parent(LinkSocket& host, const BerthSpec& berth) {
  const std::string what = fmt::format("cannot make a macvlan on '{}'", berth.parent);
  const auto parent = host.find(berth.parent);
  if (!parent) throw Error(ErrorCode::host, what, "there is no such network device");
  if (!parent->up)
    throw Error(ErrorCode::host, what, "it is down", fmt::format("bring it up: ip link set {} up", berth.parent));
  if (!parent->carrier) throw Error(ErrorCode::host, what, "it has no carrier", "check cable and switch port");
  return *parent;
}

void create_macvlan(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  const Link parent = require_parent(host, record.berth);
  // Created where it is needed: moving it there would cost a hundred times as much, under the kernel's RTNL lock.
  host.create_macvlan({.name = record.berth.interface,
                       .parent = parent.index,
                       .mac = berth_mac(record),
                       .mtu = record.berth.mtu.value_or(parent.mtu),
                       .netns = netns.get()});
}

void remove_macvlan(const BerthSpec& berth, const UniqueFd& netns) {
  // Explicitly: a socket that somebody holds elsewhere would keep the netns alive, and the macvlan in it.
  LinkSocket inside = LinkSocket::in_netns(netns);
  if (const auto link = inside.find(berth.interface)) inside.remove(*link);
}

void move_netdev_in(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  host.change(host.get(record.original.name), {.name = record.berth.interface, .netns = netns.get()});
}

void move_netdev_home(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  const std::string& name = record.original.name;
  LinkSocket inside = LinkSocket::in_netns(netns);
  const auto link = inside.find(record.berth.interface);
  if (!link) return;
  // The kernel would move the device first and then fail to rename it.
  if (host.find(name))
    throw Error(ErrorCode::host, fmt::format("cannot bring '{}' home", name), "another device has taken its name",
                "rename the other device, then run: berth repair");
  const UniqueFd home = open_current_netns();
  inside.change(*link, {.name = name, .netns = home.get()});
}

/// The device on the host under whatever name a crash, or the death of its netns, has left it there. Without a PCI
/// address it is told from others that took its name by its MAC address.
std::optional<Link> find_on_host(LinkSocket& host, const LeaseRecord& record) {
  if (record.berth.pci) return host.find(read_host_netdev(record.berth));
  for (const std::string& name : {record.original.name, record.berth.interface})
    if (auto link = host.find(name); link && link->mac == record.original.mac) return link;
  return std::nullopt;
}

void restore_netdev(LinkSocket& host, const LeaseRecord& record) {
  const OriginalState& original = record.original;
  auto link = find_on_host(host, record);
  if (!link) throw vanished(record.berth);
  if (link->name != original.name) {
    host.change(*link, {.up = false});
    host.change(*link, {.name = original.name});
    link = host.get(original.name);
  }
  if (link->mac != original.mac) host.change(*link, {.mac = original.mac});
  if (link->mtu != original.mtu) host.change(*link, {.mtu = original.mtu});
  if (link->up != original.up) host.change(*link, {.up = original.up});
  const std::vector<IpPrefix> present = host.addresses(*link);
  const auto is_in = [](const std::vector<IpPrefix>& all, const IpPrefix& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (const IpPrefix& address : present)
    if (!is_in(original.addresses, address)) host.remove_address(*link, address);
  for (const IpPrefix& address : original.addresses)
    if (!is_in(present, address)) host.add_address(*link, address);
}

}  // namespace

OriginalState read_original(const BerthSpec& berth) {
  LinkSocket host;
  if (berth.kind == PoolKind::macvlan) {
    require_parent(host, berth);
    return {};
  }
  const auto link = host.find(read_host_netdev(berth));
  if (!link) throw vanished(berth);
  return {link->name, link->mac, link->mtu, link->up, host.addresses(*link)};
}

void bring_in(const LeaseRecord& record, const UniqueFd& netns) {
  LinkSocket host;
  if (record.berth.kind == PoolKind::macvlan) return create_macvlan(host, record, netns);
  // The order: what only the PF can set, the RDMA device, and the netdev last.
  move_netdev_in(host, record, netns);
}

void bring_home(const LeaseRecord& record, const std::optional<UniqueFd>& netns) {
  if (record.berth.kind == PoolKind::macvlan) {
    if (netns) remove_macvlan(record.berth, *netns);
    return;
  }
  // The order: the RDMA device, the netdev, what only the PF can set, and what the netdev itself had.
  LinkSocket host;
  if (netns) move_netdev_home(host, record, *netns);
  restore_netdev(host, record);
}

MacAddress berth_mac(const LeaseRecord& record) {
  return record.berth.kind == PoolKind::macvlan ? make_mac_address(host_name(), record.berth.id) : record.original.mac;
}

}  // namespace berth
