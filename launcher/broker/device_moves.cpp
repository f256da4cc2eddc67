#include "launcher/broker/device_moves.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "launcher/broker/rdma_device.hpp"
#include "launcher/broker/rdma_moves.hpp"
#include "launcher/broker/vf_settings.hpp"
#include "launcher/core/hardware_addresses.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/pci_function.hpp"

namespace berth {

namespace {

/// How long a VF may take to follow its PF without a new probe, and its netdev to appear after one.
constexpr int kResetPatienceMs = 300;
constexpr int kProbePatienceMs = 3000;

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// The netdev of the device in the host's netns: of the PCI function if the berth has one, else `parent` itself. Empty
/// if it is not on the host now.
std::string read_host_netdev(const BerthSpec& berth) { return berth.pci ? read_pci_netdev(*berth.pci) : berth.parent; }

Error vanished(const BerthSpec& berth) {
  const std::string name = berth.pci ? to_string(*berth.pci) : berth.parent;
  const std::string driver = berth.pci ? read_pci_driver(*berth.pci) : std::string{};
  return {
      ErrorCode::host, fmt::format("cannot find the network device of {}", name),
      fmt::format("it is neither on the host nor in its berth{}",
                  driver.empty() ? std::string{} : fmt::format("; driver {} is bound", driver)),
      "check that its network driver is bound; a namespace that still has it gives it back when its last process ends"};
}

/// A whole NIC that the node itself is reached by would take the node off the network.
void require_no_default_route(const std::string& netdev) {
  // Lines of name, destination, gateway, flags …: proc(5).
  const std::string routes = read_file(AT_FDCWD, "/proc/net/route");
  if (routes.find(fmt::format("\n{}\t00000000\t", netdev)) == std::string::npos) return;
  throw Error(ErrorCode::host, fmt::format("cannot take the NIC '{}' away from the host", netdev),
              "the host's default route leads through it", "remove it from `parents` of the pool");
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

/// The device in the netns of its berth. A container may have renamed it there, and given its name to another.
std::optional<Link> find_inside(LinkSocket& inside, const LeaseRecord& record, const UniqueFd& netns) {
  const BerthSpec& berth = record.berth;
  if (!record.foreign_netns) return inside.find(berth.interface);
  if (berth.pci) {
    const NetnsGuard guard(netns);
    return inside.find(read_pci_netdev(*berth.pci, create_sysfs()));
  }
  const MacAddress mac = berth_mac(record);
  const auto links = inside.list();
  const auto is_ours = [&](const Link& link) {
    return link.mac == mac && (berth.kind != PoolKind::macvlan || link.kind == "macvlan");
  };
  const auto found = std::ranges::find_if(links, is_ours);
  return found == links.end() ? std::nullopt : std::optional(*found);
}

void remove_macvlan(const LeaseRecord& record, const UniqueFd& netns) {
  // Explicitly: a socket that somebody holds elsewhere would keep the netns alive, and the macvlan in it.
  LinkSocket inside = LinkSocket::in_netns(netns);
  if (const auto link = find_inside(inside, record, netns)) inside.remove(*link);
}

/// The kernel would move a device first and then fail to rename it.
void require_free_name(const LeaseRecord& record, const UniqueFd& netns) {
  const std::string& name = record.berth.interface;
  if (!record.foreign_netns || !LinkSocket::in_netns(netns).find(name)) return;
  throw Error(ErrorCode::usage, fmt::format("cannot bring {} into the container as '{}'", record.berth.id, name),
              "the container has a network interface of this name",
              "choose another: --annotation berth.interface=NAME");
}

/// The device on the host under whatever name a crash, or the death of its netns, has left it there. Without a PCI
/// address it is told from others that took its name by its MAC address.
std::optional<Link> find_on_host(LinkSocket& host, const LeaseRecord& record) {
  if (record.berth.pci) return host.find(read_host_netdev(record.berth));
  for (const std::string& name : {record.original.name, record.berth.interface})
    if (auto link = host.find(name); link && link->mac == record.original.mac) return link;
  return std::nullopt;
}

/// Makes the netdev a new one, whose driver has asked the PF what it should be like.
void rebind(LinkSocket& host, const BerthSpec& berth) {
  const std::string driver = read_pci_driver(*berth.pci);
  unbind_driver(*berth.pci, driver);
  bind_driver(*berth.pci, driver);
  if (!host.wait_until([&] { return host.find(read_host_netdev(berth)).has_value(); }, kProbePatienceMs))
    throw vanished(berth);
}

/// Drivers follow a new administrative MAC address at once, after a reset, when they are told, or only when they probe.
void apply_mac(LinkSocket& host, const LeaseRecord& record, const MacAddress& mac) {
  const auto has_mac = [&] {
    const auto link = find_on_host(host, record);
    return link && link->mac == mac;
  };
  const auto link = find_on_host(host, record);
  if (!link) throw vanished(record.berth);
  if (link->mac == mac) return;
  try {
    host.change(*link, {.mac = mac});
  } catch (const Error&) {
    if (!record.berth.pci) throw;
  }
  if (host.wait_until(has_mac, kResetPatienceMs) || !record.berth.pci) return;
  rebind(host, record.berth);
  if (!has_mac())
    throw Error(ErrorCode::host,
                fmt::format("cannot give the interface of VF {} the MAC address {}", record.berth.id, to_string(mac)),
                fmt::format("driver {} does not take it", read_pci_driver(*record.berth.pci)));
}

void apply_vf(const Journal& journal, LinkSocket& host, const LeaseRecord& record) {
  const BerthSpec& berth = record.berth;
  apply_vf_settings(journal, berth);
  if (berth.vf.mac) apply_mac(host, record, *berth.vf.mac);
  // InfiniBand drivers ask for their GUIDs when they probe.
  if (berth.vf.node_guid && read_pci_node_guid(*berth.pci).value_or(*berth.vf.node_guid) != *berth.vf.node_guid)
    rebind(host, berth);
}

void move_netdev_in(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  const auto link = find_on_host(host, record);
  if (!link) throw vanished(record.berth);
  host.change(*link, {.name = record.berth.interface, .netns = netns.get()});
}

void move_netdev_home(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  const std::string& name = record.original.name;
  LinkSocket inside = LinkSocket::in_netns(netns);
  const auto link = find_inside(inside, record, netns);
  if (!link) return;
  // As in require_free_name().
  if (host.find(name))
    throw Error(ErrorCode::host, fmt::format("cannot bring '{}' home", name), "another device has taken its name",
                "rename the other device, then run: berth repair");
  const UniqueFd home = open_current_netns();
  inside.change(*link, {.name = name, .netns = home.get()});
}

/// The netdev of a VF that is in no berth.
void await_netdev(LinkSocket& host, const LeaseRecord& record) {
  const PciAddress& pci = *record.berth.pci;
  const std::string driver = read_pci_driver(pci);
  // It had one, and loses it only to a rebind that was cut short, or to an administrator.
  if (driver.empty() && !record.original.driver.empty()) bind_driver(pci, record.original.driver);
  // The kernel takes its time to bring home what was in a netns that died.
  if (driver.empty() || driver == record.original.driver)
    host.wait_until([&] { return find_on_host(host, record).has_value(); }, kProbePatienceMs);
}

void restore_netdev(LinkSocket& host, const LeaseRecord& record) {
  const OriginalState& original = record.original;
  apply_mac(host, record, original.mac);
  auto link = find_on_host(host, record);
  if (!link) throw vanished(record.berth);
  if (link->name != original.name) {
    host.change(*link, {.up = false});
    host.change(*link, {.name = original.name});
    link = host.get(original.name);
  }
  if (link->mtu != original.mtu) host.change(*link, {.mtu = original.mtu});
  if (link->up != original.up) host.change(*link, {.up = original.up});
  const std::vector<IpPrefix> present = host.addresses(*link);
  const auto is_in = [](const std::vector<IpPrefix>& all, const IpPrefix& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (const IpPrefix& address : present)
    if (!is_in(original.addresses, address)) host.remove_address(*link, address);
  for (const IpPrefix& address : original.addresses)
    if (!is_in(present, address)) host.add_address(*link, address, !is_in(original.without_broadcast, address));
}

}  // namespace

OriginalState read_original(const BerthSpec& berth) {
  LinkSocket host;
  OriginalState original;
  if (berth.kind == PoolKind::macvlan) {
    require_parent(host, berth);
  } else if (is_moved(berth.kind)) {
    const auto link = host.find(read_host_netdev(berth));
    if (!link) throw vanished(berth);
    if (berth.kind == PoolKind::pf) require_no_default_route(link->name);
    original.name = link->name;
    original.mac = link->mac;
    original.mtu = link->mtu;
    original.up = link->up;
    original.addresses = host.addresses(*link, &original.without_broadcast);
    if (berth.pci) {
      original.pci_instance = read_pci_instance(*berth.pci);
      original.driver = read_pci_driver(*berth.pci);
      if (berth.vf != VfAttributes{}) original.vf = read_vf_settings(*berth.pci);
    }
  }
  read_rdma_device(berth, original);
  return original;
}

bool still_exists(const LeaseRecord& record) {
  return !record.berth.pci || read_pci_instance(*record.berth.pci) == record.original.pci_instance;
}

void bring_in(const Journal& journal, LeaseRecord& record, const UniqueFd& netns) {
  LinkSocket host;
  require_free_name(record, netns);
  if (record.berth.kind == PoolKind::macvlan) return create_macvlan(host, record, netns);
  // The order: what only the PF can set, the RDMA device, and the netdev last.
  apply_vf(journal, host, record);
  await_rdma(record);
  move_rdma_in(record, netns);
  move_netdev_in(host, record, netns);
}

void bring_home(const Journal& journal, const LeaseRecord& record, const std::optional<UniqueFd>& netns) {
  if (record.berth.kind == PoolKind::host) return;
  if (record.berth.kind == PoolKind::macvlan) {
    if (netns) remove_macvlan(record, *netns);
    return;
  }
  // The order: the RDMA device, the netdev, what only the PF can set, and what the netdev itself had. Restoring may
  // bind the driver anew, so the RDMA device is looked for last.
  move_rdma_home(record, netns);
  LinkSocket host;
  if (netns) move_netdev_home(host, record, *netns);
  if (record.berth.pci) await_netdev(host, record);
  restore_vf_settings(journal, record);
  restore_netdev(host, record);
  await_rdma(record);
}

MacAddress berth_mac(const LeaseRecord& record) {
  return record.berth.kind == PoolKind::macvlan ? make_mac_address(host_name(), record.berth.id)
                                                : record.berth.vf.mac.value_or(record.original.mac);
}

}  // namespace berth
