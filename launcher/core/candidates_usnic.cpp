// Devices of pools with kind = "usnic": whole vNICs, or shares of a vNIC that stays on the host.
#include <fmt/format.h>

#include "launcher/core/candidates.hpp"
#include "launcher/core/usnic.hpp"

namespace berth {
namespace {

/// PCI addresses outlast names of RDMA devices.
std::string id_of(const UsnicDevice& device) { return device.pci ? to_string(*device.pci) : device.name; }

std::string share_id(const UsnicDevice& device, unsigned number) {
  return fmt::format("{}.rdma{}", device.name, number);
}

/// What the vNIC's netdev is called on the host, also while it is in its berth.
std::string host_netdev(const UsnicDevice& device, const Inventory& inventory) {
  std::string name = find_usnic_netdev(device, inventory);
  if (!name.empty()) return name;
  const HeldDevice* held = find_held(inventory, id_of(device));
  return held == nullptr ? std::string{} : held->parent;
}

Parents<UsnicDevice> find_vnics(const Pool& pool, const Inventory& inventory) {
  return find_parents(pool, inventory.usnic_devices, [&](const std::string& pattern, const UsnicDevice& device) {
    return matches(pattern, device.name, device.pci) || matches(pattern, host_netdev(device, inventory));
  });
}

std::string vfs_text(unsigned vfs) { return fmt::format("{} VF{}", vfs, vfs == 1 ? "" : "s"); }

/// The leases of shares of the vNIC.
struct Shares {
  unsigned leased = 0;
  std::string holder;
  std::vector<int> processes;
};

Shares find_shares(const UsnicDevice& device, const Inventory& inventory) {
  Shares shares;
  for (const HeldDevice& held : inventory.held) {
    if (!held.leased || !held.device_id.starts_with(device.name + ".rdma")) continue;
    ++shares.leased;
    shares.holder = held.holder;
    shares.processes.insert(shares.processes.end(), held.processes.begin(), held.processes.end());
  }
  return shares;
}

/// Shares that nobody holds and nobody else's QPs have taken the VFs of.
unsigned count_free_shares(const Pool& pool, const UsnicDevice& device, const Inventory& inventory) {
  const Shares shares = find_shares(device, inventory);
  const unsigned others = count_vfs_of_others(device, shares.processes).vfs;
  const unsigned most =
      device.vfs > others ? (device.vfs - others) / count_vfs_per_rank(device, pool.usnic.qps_per_rank) : 0;
  return most > shares.leased ? most - shares.leased : 0;
}

/// "usnic_0 has 4 VFs, 1 of them taken by process 4711, and a rank takes 2"
std::string describe_use(const Pool& pool, const UsnicDevice& device, const Inventory& inventory) {
  const UsnicUse others = count_vfs_of_others(device, find_shares(device, inventory).processes);
  const std::string taken =
      others.vfs == 0 ? "" : fmt::format(", {} of them taken by others (process {})", others.vfs, others.process);
  return fmt::format("{} has {}{}, and a rank takes {}", device.name, vfs_text(device.vfs), taken,
                     count_vfs_per_rank(device, pool.usnic.qps_per_rank));
}

/// What rules a vNIC out however it is used.
std::string common_problem(const UsnicDevice& device, const Inventory& inventory) {
  if (const std::string defect = find_usnic_defect(device, inventory); !defect.empty())
    return fmt::format("what sysfs says of {} cannot be trusted: {}", device.name, defect);
  for (const NetDevice& netdev : inventory.net_devices)
    if (netdev.name == find_usnic_netdev(device, inventory) && netdev.link == LinkState::down)
      return fmt::format("link of {} is down", netdev.name);
  return {};
}

std::string no_address(const std::string& netdev) {
  return fmt::format("{} has no IPv4 address, and usNIC needs one", netdev);
}

/// `known`: Berth has a record of it, so that it may be in its berth.
std::string vnic_problem(const Pool& pool, const UsnicDevice& device, const Inventory& inventory, bool known) {
  if (std::string problem = common_problem(device, inventory); !problem.empty()) return problem;
  if (const Shares shares = find_shares(device, inventory); shares.leased > 0)
    return fmt::format("ranks share it: leased by {}", shares.holder);
  if (const UsnicUse use = count_vfs_of_others(device, {}); use.vfs > 0)
    return fmt::format("process {} has QPs on {} of its VFs", use.process, use.vfs);
  const std::string netdev = find_usnic_netdev(device, inventory);
  if (netdev.empty() && !known) return "its interface is in another network namespace, and Berth did not put it there";
  if (!netdev.empty() && pool.addresses.inherit && !device.address) return no_address(netdev);
  if (device.vfs < count_vfs_per_rank(device, pool.usnic.qps_per_rank)) return describe_use(pool, device, inventory);
  return {};
}

std::string share_problem(const UsnicDevice& device, const Inventory& inventory) {
  if (std::string problem = common_problem(device, inventory); !problem.empty()) return problem;
  const std::string netdev = find_usnic_netdev(device, inventory);
  if (const HeldDevice* held = find_held(inventory, id_of(device)); held != nullptr && netdev.empty())
    return held->leased ? "its vNIC is " + find_obstacle(held, {})
                        : "its vNIC is parked as a whole: berth unpark brings it home";
  if (netdev.empty()) return "its interface is not in the host's network namespace";
  if (!device.address) return no_address(netdev);
  if (!device.port_state.starts_with("4:"))
    return fmt::format("the port of {} is not active, but '{}'", device.name, device.port_state);
  return {};
}

/// What a whole vNIC and a share of it have in common.
Candidate make_candidate(const Pool& pool, const Inventory& inventory, const UsnicDevice& device, std::size_t index,
                         std::size_t numbers) {
  Candidate candidate;
  candidate.berth = make_berth(pool, inventory, index, numbers);
  const std::string netdev = host_netdev(device, inventory);
  apply_port(candidate, find_port(inventory, device.pci, netdev.empty() ? device.name : netdev));
  for (const RdmaDevice& rdma : inventory.rdma_devices) {
    if (rdma.name != device.name) continue;
    apply_place(candidate, rdma);
    candidate.speed_mbps = rdma.speed_mbps;
  }
  return candidate;
}

std::vector<Candidate> vnic_candidates(const Pool& pool, const Inventory& inventory) {
  const auto parents = find_vnics(pool, inventory);
  const std::size_t numbers = numbers_per_node(pool, parents.positions, parents.known_from_policy);
  std::vector<Candidate> candidates;
  for (const auto& [device, position] : parents.found) {
    Candidate candidate = make_candidate(pool, inventory, *device, position, numbers);
    candidate.berth.id = id_of(*device);
    candidate.berth.parent = host_netdev(*device, inventory);
    candidate.berth.pci = device->pci;
    candidate.most_ranks = device->vfs / count_vfs_per_rank(*device, pool.usnic.qps_per_rank);
    candidate.limit = describe_use(pool, *device, inventory);
    const HeldDevice* held = find_held(inventory, candidate.berth.id);
    candidate.unusable = find_obstacle(held, vnic_problem(pool, *device, inventory, held != nullptr));
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

std::vector<Candidate> share_candidates(const Pool& pool, const Inventory& inventory) {
  const auto parents = find_vnics(pool, inventory);
  std::vector<Candidate> candidates;
  for (const auto& [device, position] : parents.found) {
    const std::string problem = share_problem(*device, inventory);
    unsigned free = problem.empty() ? count_free_shares(pool, *device, inventory) : 0;
    const unsigned all = device->vfs / count_vfs_per_rank(*device, pool.usnic.qps_per_rank);
    // A vNIC that cannot be used is one device, so that somebody says why.
    const unsigned count = pool.berths_per_parent > 0 ? pool.berths_per_parent : std::max(all, 1U);
    for (unsigned number = 0; number < count; ++number) {
      Candidate candidate = make_candidate(pool, inventory, *device, position * count + number, 0);
      candidate.berth.kind = PoolKind::host;
      candidate.berth.id = share_id(*device, number);
      candidate.berth.parent = device->name;
      candidate.most_ranks = 1;
      candidate.limit = "it is what one rank takes: " + describe_use(pool, *device, inventory);
      candidate.unusable = find_obstacle(find_held(inventory, candidate.berth.id), problem);
      if (candidate.unusable.empty() && free == 0) candidate.unusable = describe_use(pool, *device, inventory);
      if (candidate.unusable.empty()) --free;
      candidates.push_back(std::move(candidate));
    }
  }
  return candidates;
}

}  // namespace

std::vector<Candidate> usnic_candidates(const Pool& pool, const Inventory& inventory) {
  return pool.usnic.vnic == Vnic::own ? vnic_candidates(pool, inventory) : share_candidates(pool, inventory);
}

std::string describe_usnic(const Pool& pool, const Inventory& inventory) {
  if (pool.usnic.vnic == Vnic::own) return {};
  std::string text;
  for (const auto& [device, position] : find_vnics(pool, inventory).found)
    text += "; " + describe_use(pool, *device, inventory);
  return text;
}

}  // namespace berth
