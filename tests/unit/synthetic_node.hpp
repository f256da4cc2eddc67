// A two-socket node that exists nowhere: 16 cores with 2 threads each, a dual-speed pair of SR-IOV NICs, a slow NIC.
#pragma once

#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"
#include "tests/error_of.hpp"

namespace berth {

/// Core c has threads c and c + 16; cores 0-7 are NUMA node 0, cores 8-15 NUMA node 1; node 8 has memory only.
inline Topology two_sockets() {
  Topology topology;
  for (unsigned core = 0; core < 16; ++core) {
    topology.cores.push_back(CpuSet::range(core, core) | CpuSet::range(core + 16, core + 16));
  }
  topology.numa_nodes = {{0, *parse_cpu_list("0-7,16-23")}, {1, *parse_cpu_list("8-15,24-31")}, {8, {}}};
  topology.packages = {topology.numa_nodes[0].cpus, topology.numa_nodes[1].cpus};
  topology.cpus = CpuSet::range(0, 31);
  return topology;
}

/// PFs eth2 (0000:3b:00.0, NUMA node 0) and eth3 (0000:af:00.0, NUMA node 1) with four VFs each, and eth0 without.
inline Inventory two_socket_node() {
  Inventory inventory;
  inventory.host = "n2";
  inventory.topology = two_sockets();
  NetDevice eth0;
  eth0.name = "eth0";
  eth0.index = 2;
  eth0.mtu = 1500;
  eth0.link = LinkState::up;
  eth0.speed_mbps = 1000;
  inventory.net_devices.push_back(eth0);
  for (unsigned number = 0; number < 2; ++number) {
    const std::string bus = number == 0 ? "3b" : "af";
    const CpuSet local = inventory.topology.numa_nodes[number].cpus;
    const PciAddress pf = *parse_pci_address("0000:" + bus + ":00.0");
    NetDevice device;
    device.name = "eth" + std::to_string(number + 2);
    device.index = number + 3;
    device.mtu = 9000;
    device.link = LinkState::up;
    device.speed_mbps = 100000;
    device.driver = "mlx5_core";
    device.pci = pf;
    device.rdma_devices = {"mlx5_" + std::to_string(number)};
    device.numa_node = number;
    device.local_cpus = local;
    inventory.net_devices.push_back(device);
    inventory.physical_functions.push_back({pf, device.name, 8, 4});
    for (unsigned index = 0; index < 4; ++index) {
      VirtualFunction vf;
      vf.pci = *parse_pci_address("0000:" + bus + ":02." + std::to_string(index));
      vf.pf = pf;
      vf.index = index;
      vf.driver = "mlx5_core";
      vf.netdev = device.name + "v" + std::to_string(index);
      vf.numa_node = number;
      vf.local_cpus = local;
      inventory.virtual_functions.push_back(vf);
    }
  }
  return inventory;
}

/// Pool "fast": all VFs of eth2 and eth3; pool "slow": four macvlan devices on eth0.
inline Policy two_pools() {
  Policy policy;
  policy.source = "policy.toml";
  Pool fast;
  fast.name = "fast";
  fast.kind = PoolKind::sriov;
  fast.parents = {"eth2", "eth3"};
  fast.addresses.ranges = {*parse_ip_prefix("10.77.0.0/16")};
  fast.addresses.nodes = "n[1-100]";
  Pool slow;
  slow.name = "slow";
  slow.kind = PoolKind::macvlan;
  slow.parents = {"eth0"};
  slow.berths_per_parent = 4;
  slow.addresses.ranges = {*parse_ip_prefix("10.78.0.0/16")};
  slow.addresses.nodes = "n[1-100]";
  policy.pools = {fast, slow};
  return policy;
}

/// `count` ranks that may all use all CPUs of two_sockets().
inline std::vector<LocalRank> unbound_ranks(unsigned count) {
  std::vector<LocalRank> ranks;
  for (unsigned rank = 0; rank < count; ++rank) ranks.push_back({rank, CpuSet::range(0, 31)});
  return ranks;
}

inline PlanInput two_socket_input(unsigned ranks) {
  return {{}, two_pools(), two_socket_node(), {1000, 1000, "alice", {"users"}, ""}, unbound_ranks(ranks)};
}

/// Why there is no plan.
inline Error refusal(const PlanInput& input) {
  return testing::error_of([&] { make_plan(input); });
}

}  // namespace berth
