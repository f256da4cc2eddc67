#include "launcher/core/candidates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "launcher/core/addresses.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/hardware_addresses.hpp"

namespace berth {
const HeldDevice* find_held(const Inventory& inventory, const std::string& id) {
  const auto found = std::find_if(inventory.held.begin(), inventory.held.end(),
                                  [&](const HeldDevice& held) { return held.device_id == id; });
  return found == inventory.held.end() ? nullptr : &*found;
}

std::string find_obstacle(const HeldDevice* held, std::string problem) {
  if (held == nullptr) return problem;
  if (!held->quarantined.empty()) return "quarantined: " + held->quarantined;
  if (held->leased) return "leased by " + (held->holder.empty() ? std::string("somebody") : held->holder);
  return problem;
}

std::size_t numbers_per_node(const Pool& pool, std::size_t devices, bool known_from_policy) {
  if (known_from_policy || pool.addresses.inherit || pool.addresses.ranges.empty()) return devices;
  std::uint64_t share = std::numeric_limits<unsigned>::max();
  for (const IpPrefix& range : pool.addresses.ranges) {
    share = std::min(share, device_capacity(range, pool.gateways) / expand_hostlist(pool.addresses.nodes).size());
  }
  if (share >= devices) return share;
  throw Error(ErrorCode::policy, fmt::format("no addresses for all devices of pool \"{}\"", pool.name),
              fmt::format("the node may have {} devices, and the smallest range has {} addresses for each node",
                          devices, share),
              "give the pool a larger range, or fewer berths");
}

void apply_port(Candidate& candidate, Port port) {
  candidate.port = std::move(port.name);
  candidate.card = std::move(port.card);
  candidate.link_layer = std::move(port.link_layer);
}

BerthSpec make_berth(const Pool& pool, const Inventory& inventory, std::size_t index, std::size_t devices_per_node) {
  BerthSpec berth;
  berth.pool = pool.name;
  berth.kind = pool.kind;
  berth.index = static_cast<unsigned>(index);
  berth.interface = pool.interface;
  berth.park = pool.park;
  berth.inherit_addresses = pool.addresses.inherit;
  if (!pool.addresses.inherit && !pool.addresses.ranges.empty()) {
    berth.addresses =
        choose_addresses(pool.addresses, inventory.host, berth.index, static_cast<unsigned>(devices_per_node));
  }
  berth.mtu = pool.mtu;
  berth.gateways = pool.gateways;
  berth.rdma = pool.rdma;
  return berth;
}

namespace {

/// Throws unless the kernel is in the mode that the pool's RDMA devices need.
void check_netns_mode(const Pool& pool, const Inventory& inventory) {
  // In the host's network every device can be used in either mode.
  if (pool.rdma.mode == RdmaMode::off || is_in_host_network(pool)) return;
  const std::string what = fmt::format("cannot use pool \"{}\"", pool.name);
  if (!inventory.rdma_netns_mode)
    throw Error(ErrorCode::host, what,
                fmt::format("{} has no RDMA: the kernel's modules are not loaded", inventory.host),
                "load them (modprobe ib_uverbs) and the driver of the NIC");
  const bool exclusive = pool.rdma.mode == RdmaMode::exclusive;
  const auto wanted = exclusive ? RdmaNetnsMode::exclusive : RdmaNetnsMode::shared;
  if (*inventory.rdma_netns_mode == wanted) return;
  throw Error(
      ErrorCode::host, what,
      fmt::format("its rdma = \"{}\" needs RDMA devices {}, and the kernel of {} is in {} mode",
                  to_string(pool.rdma.mode),
                  exclusive                      ? "that move between network namespaces"
                  : pool.kind == PoolKind::usnic ? "that all network namespaces can use, since usNIC's cannot move"
                                                 : "that all network namespaces can use",
                  inventory.host, to_string(*inventory.rdma_netns_mode)),
      fmt::format("write \"options ib_core netns_mode={}\" to /etc/modprobe.d/ib_core.conf and boot (rdma system "
                  "set netns {} does it only until then, and only while no other network namespace exists)",
                  exclusive ? 0 : 1, to_string(wanted)));
}

/// The RDMA device of a NIC: by its netdev, since a function can have several ports, else by its function.
const RdmaDevice* find_rdma_device(const Inventory& inventory, const NetDevice& parent) {
  const RdmaDevice* of_function = nullptr;
  for (const RdmaDevice& device : inventory.rdma_devices) {
    if (device.netdev == parent.name) return &device;
    if (device.pci && device.pci == parent.pci) of_function = &device;
  }
  return of_function;
}

std::string macvlan_problem(const Pool& pool, const Inventory& inventory, const NetDevice& parent) {
  if (pool.rdma.mode != RdmaMode::off && find_rdma_device(inventory, parent) == nullptr)
    return fmt::format("{} has no RDMA device", parent.name);
  if (parent.link == LinkState::down) return fmt::format("link of {} is down", parent.name);
  if (pool.mtu && parent.mtu != 0 && *pool.mtu > parent.mtu) {
    return fmt::format("the pool's MTU {} is larger than the MTU {} of {}", *pool.mtu, parent.mtu, parent.name);
  }
  return {};
}

std::vector<Candidate> macvlan_candidates(const Pool& pool, const Inventory& inventory) {
  const auto parents =
      find_parents(pool, inventory.net_devices, [](const std::string& pattern, const NetDevice& device) {
        // A wildcard means the node's NICs: never the loopback, nor interfaces that were made from them.
        const bool stacked = device.name == "lo" || device.kind == "macvlan" || device.kind == "ipvlan";
        return (!stacked || pattern == device.name) && matches(pattern, device.name, device.pci);
      });
  const std::size_t numbers =
      numbers_per_node(pool, parents.positions * pool.berths_per_parent, parents.known_from_policy);
  std::vector<Candidate> candidates;
  for (const auto& [parent, position] : parents.found) {
    for (unsigned number = 0; number < pool.berths_per_parent; ++number) {
      Candidate candidate;
      candidate.berth = make_berth(pool, inventory, position * pool.berths_per_parent + number, numbers);
      candidate.berth.id = fmt::format("{}.mv{}", parent->name, number);
      candidate.berth.parent = parent->name;
      apply_port(candidate, find_port(inventory, parent->pci, parent->name));
      apply_place(candidate, *parent);
      candidate.speed_mbps = parent->speed_mbps;
      candidate.unusable =
          find_obstacle(find_held(inventory, candidate.berth.id), macvlan_problem(pool, inventory, *parent));
      candidates.push_back(std::move(candidate));
    }
  }
  return candidates;
}

/// `known`: Berth has a record of it, so that it may be in its berth.
std::string vf_problem(const Pool& pool, const VirtualFunction& vf, const NetDevice* pf, bool known) {
  if (vf.driver == "vfio-pci" || vf.driver == "pci-stub" || vf.driver == "uio_pci_generic") {
    return fmt::format("bound to {}, so that it has no network interface", vf.driver);
  }
  if (vf.driver.empty()) return "no driver bound";
  if (pf != nullptr && pf->link == LinkState::down) return fmt::format("link of its PF {} is down", pf->name);
  if (vf.netdev.empty() && !known) {
    return "its interface is in another network namespace, and Berth did not put it there";
  }
  if (pool.rdma.mode != RdmaMode::off && !known) {
    if (vf.rdma_devices.empty())
      return "it has no RDMA device here: its driver makes none, or it is in another network namespace";
    if (vf.rdma_devices.size() > 1)
      return fmt::format("it has {} RDMA devices, and a berth can have one", vf.rdma_devices.size());
  }
  return {};
}

VfAttributes make_vf_attributes(const VfPolicy& policy, const std::string& host, const std::string& id) {
  VfAttributes attributes = policy.attributes;
  if (policy.generate_mac) attributes.mac = make_mac_address(host, id);
  if (policy.generate_guid) attributes.node_guid = attributes.port_guid = make_guid(host, id);
  return attributes;
}

std::vector<Candidate> sriov_candidates(const Pool& pool, const Inventory& inventory) {
  const auto parents = find_parents(
      pool, inventory.physical_functions,
      [](const std::string& pattern, const PhysicalFunction& pf) { return matches(pattern, pf.netdev, pf.pci); });
  // As many numbers for every PF as the largest can have VFs: addresses do not depend on how many are enabled now.
  std::size_t per_parent = pool.berths_per_parent;
  if (per_parent == 0) {
    for (const auto& [pf, position] : parents.found) {
      per_parent = std::max<std::size_t>({per_parent, pf->total_vfs, pf->num_vfs});
    }
  }
  const std::size_t numbers =
      numbers_per_node(pool, parents.positions * per_parent, parents.known_from_policy && pool.berths_per_parent > 0);
  std::vector<Candidate> candidates;
  for (const auto& [pf, position] : parents.found) {
    const NetDevice* pf_netdev = find_net_device(inventory, pf->netdev);
    for (const VirtualFunction& vf : inventory.virtual_functions) {
      if (vf.pf != pf->pci || vf.index >= per_parent) continue;
      Candidate candidate;
      candidate.berth = make_berth(pool, inventory, position * per_parent + vf.index, numbers);
      candidate.berth.id = to_string(vf.pci);
      candidate.berth.parent = pf->netdev;
      candidate.berth.pci = vf.pci;
      candidate.berth.vf = make_vf_attributes(pool.vf, inventory.host, candidate.berth.id);
      apply_port(candidate, find_port(inventory, pf->pci, pf->netdev));
      apply_place(candidate, vf);
      candidate.speed_mbps = pf_netdev == nullptr ? 0 : pf_netdev->speed_mbps;
      const HeldDevice* held = find_held(inventory, candidate.berth.id);
      candidate.unusable = find_obstacle(held, vf_problem(pool, vf, pf_netdev, held != nullptr));
      candidates.push_back(std::move(candidate));
    }
  }
  return candidates;
}

std::string pf_problem(const NetDevice& device, const Inventory& inventory) {
  const auto has_vfs = [&](const PhysicalFunction& pf) { return pf.pci == device.pci && pf.num_vfs > 0; };
  if (std::ranges::none_of(inventory.physical_functions, has_vfs)) return {};
  return "it has VFs: use them (kind = \"sriov\"), or remove them (sriov_numvfs)";
}

std::vector<Candidate> pf_candidates(const Pool& pool, const Inventory& inventory) {
  std::vector<Candidate> candidates;
  for (std::size_t position = 0; position < pool.parents.size(); ++position) {
    const std::string& parent = pool.parents[position];
    const auto pci = parse_pci_address(parent);
    const auto device = std::ranges::find_if(
        inventory.net_devices, [&](const NetDevice& one) { return pci ? one.pci == pci : one.name == parent; });
    Candidate candidate;
    candidate.berth = make_berth(pool, inventory, position, pool.parents.size());
    // As the policy says it: what is in a berth has no name on the host that could be looked up.
    candidate.berth.id = pci ? to_string(*pci) : parent;
    candidate.berth.parent = parent;
    candidate.berth.pci = pci;
    const HeldDevice* held = find_held(inventory, candidate.berth.id);
    const bool is_here = device != inventory.net_devices.end();
    if (!is_here && held == nullptr) continue;
    if (is_here) {
      candidate.berth.parent = device->name;
      candidate.berth.pci = device->pci;
      apply_port(candidate, find_port(inventory, device->pci, device->name));
      apply_place(candidate, *device);
      candidate.speed_mbps = device->speed_mbps;
    }
    candidate.unusable = find_obstacle(held, is_here ? pf_problem(*device, inventory) : std::string());
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

std::string host_problem(const RdmaDevice& device) {
  return device.link == LinkState::down ? fmt::format("the port of {} is not active", device.name) : std::string();
}

std::vector<Candidate> host_candidates(const Pool& pool, const Inventory& inventory) {
  const auto parents =
      find_parents(pool, inventory.rdma_devices, [](const std::string& pattern, const RdmaDevice& device) {
        return matches(pattern, device.name, device.pci) || matches(pattern, device.netdev);
      });
  std::vector<Candidate> candidates;
  for (const auto& [parent, position] : parents.found) {
    for (unsigned number = 0; number < pool.berths_per_parent; ++number) {
      Candidate candidate;
      candidate.berth = make_berth(pool, inventory, position * pool.berths_per_parent + number, 0);
      candidate.berth.id = fmt::format("{}.rdma{}", parent->name, number);
      candidate.berth.parent = parent->name;
      apply_port(candidate, find_port(inventory, parent->pci, parent->netdev.empty() ? parent->name : parent->netdev));
      apply_place(candidate, *parent);
      candidate.speed_mbps = parent->speed_mbps;
      candidate.unusable = find_obstacle(find_held(inventory, candidate.berth.id), host_problem(*parent));
      candidates.push_back(std::move(candidate));
    }
  }
  return candidates;
}

std::vector<Candidate> candidates_of_kind(const Pool& pool, const Inventory& inventory) {
  switch (pool.kind) {
    case PoolKind::macvlan:
      return macvlan_candidates(pool, inventory);
    case PoolKind::sriov:
      return sriov_candidates(pool, inventory);
    case PoolKind::pf:
      return pf_candidates(pool, inventory);
    case PoolKind::host:
      return host_candidates(pool, inventory);
    case PoolKind::usnic:
      return usnic_candidates(pool, inventory);
  }
  return {};
}

/// Ranks on fabrics of two kinds could not reach each other. The pool's first parent decides, on every node.
void reject_other_fabrics(std::vector<Candidate>& candidates) {
  const auto first = std::ranges::find_if(candidates, [](const Candidate& one) { return !one.link_layer.empty(); });
  if (first == candidates.end()) return;
  for (Candidate& candidate : candidates) {
    if (candidate.link_layer.empty() || candidate.link_layer == first->link_layer || !candidate.unusable.empty())
      continue;
    candidate.unusable = fmt::format("link layer {}, and the pool's first port {} has {}", candidate.link_layer,
                                     first->port, first->link_layer);
  }
}

}  // namespace

std::vector<Candidate> make_candidates(const Pool& pool, const Inventory& inventory) {
  check_netns_mode(pool, inventory);
  std::vector<Candidate> candidates = candidates_of_kind(pool, inventory);
  reject_other_fabrics(candidates);
  return candidates;
}

}  // namespace berth
