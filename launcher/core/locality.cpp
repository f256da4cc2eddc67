#include "launcher/core/locality.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace berth {
namespace {

constexpr std::uint32_t kLocalDistance = 10;  // of the ACPI specification, and what Linux assumes without a SLIT
constexpr std::uint32_t kRemoteDistance = 20;

const CpuSet& allowed_cpus(const Topology& topology) {
  return topology.allowed.empty() ? topology.cpus : topology.allowed;
}

bool is_elsewhere(const CpuSet& cpus, const std::vector<CpuSet>& sets) {
  return std::none_of(sets.begin(), sets.end(), [&](const CpuSet& set) { return set.intersects(cpus); });
}

}  // namespace

std::string_view to_string(Nearness nearness) {
  switch (nearness) {
    case Nearness::local:
      return "local";
    case Nearness::numa_node:
      return "NUMA node";
    case Nearness::package:
      return "package";
    case Nearness::remote:
      break;
  }
  return "remote";
}

std::string_view to_string(PciPath path) {
  switch (path) {
    case PciPath::one_switch:
      return "PIX";
    case PciPath::switches:
      return "PXB";
    case PciPath::host_bridge:
      return "PHB";
    case PciPath::numa_node:
      return "NODE";
    case PciPath::system:
      break;
  }
  return "SYS";
}

std::vector<CpuSet> numa_domains(const Topology& topology) {
  const CpuSet& allowed = allowed_cpus(topology);
  std::vector<CpuSet> nodes;
  for (const NumaNode& node : topology.numa_nodes) {
    CpuSet cpus = node.cpus & allowed;
    if (!cpus.empty() && std::find(nodes.begin(), nodes.end(), cpus) == nodes.end()) nodes.push_back(std::move(cpus));
  }
  std::vector<CpuSet> domains;
  for (const CpuSet& cpus : nodes) {
    const bool has_parts = std::any_of(nodes.begin(), nodes.end(),
                                       [&](const CpuSet& other) { return other != cpus && other.is_subset_of(cpus); });
    if (!has_parts) domains.push_back(cpus);
  }
  for (const auto* sets : {&topology.groups, &topology.packages}) {
    for (const CpuSet& set : *sets) {
      CpuSet cpus = set & allowed;
      if (!cpus.empty() && is_elsewhere(cpus, domains)) domains.push_back(std::move(cpus));
    }
  }
  if (domains.empty()) domains.push_back(allowed);
  return domains;
}

CpuSet device_cpus(const Topology& topology, std::optional<unsigned> numa_node, const CpuSet& local_cpus) {
  const bool says_nothing = local_cpus.empty() || topology.cpus.is_subset_of(local_cpus);
  for (const NumaNode& node : topology.numa_nodes) {
    if (says_nothing && numa_node == node.os_index && !node.cpus.empty()) return node.cpus;
  }
  if (!says_nothing) return local_cpus;
  return numa_domains(topology).size() == 1 ? topology.cpus : CpuSet{};
}

Locality::Locality(const Topology& topology)
    : topology_(topology), one_domain_(numa_domains(topology).size() <= 1), homes_(topology.numa_nodes.size()) {
  std::vector<std::size_t> smallest_first(homes_.size());
  std::iota(smallest_first.begin(), smallest_first.end(), 0);
  std::stable_sort(smallest_first.begin(), smallest_first.end(), [&](std::size_t a, std::size_t b) {
    return topology.numa_nodes[a].cpus.count() < topology.numa_nodes[b].cpus.count();
  });
  CpuSet homeless = topology.cpus;
  for (const std::size_t node : smallest_first) {
    homes_[node] = topology.numa_nodes[node].cpus & homeless;
    homeless -= homes_[node];
  }
}

Locality::Device Locality::locate(const CpuSet& local_cpus) const {
  Device device;
  device.known = !local_cpus.empty() && (one_domain_ || !topology_.cpus.is_subset_of(local_cpus));
  device.local = device.numa_node = device.package = local_cpus;
  for (const NumaNode& node : topology_.numa_nodes) {
    if (node.cpus != topology_.cpus && node.cpus.intersects(local_cpus)) device.numa_node |= node.cpus;
  }
  for (const CpuSet& package : topology_.packages) {
    if (package.intersects(local_cpus)) device.package |= package;
  }
  if (topology_.packages.empty()) device.package |= topology_.cpus;
  device.package |= device.numa_node;

  std::vector<std::size_t> near;
  std::vector<std::size_t> with_cpus;
  for (std::size_t node = 0; node < topology_.numa_nodes.size(); ++node) {
    const CpuSet& cpus = topology_.numa_nodes[node].cpus;
    if (!cpus.intersects(allowed_cpus(topology_))) continue;
    with_cpus.push_back(node);
    if (device.known && cpus.intersects(local_cpus)) near.push_back(node);
  }
  if (near.empty()) near = with_cpus;
  std::map<std::uint32_t, CpuSet> zones;
  for (std::size_t home = 0; home < homes_.size(); ++home) {
    std::uint32_t shortest = UINT32_MAX;
    for (const std::size_t node : near) {
      const std::uint32_t told = topology_.distances.empty() ? 0 : topology_.distances[home][node];
      shortest = std::min(shortest, told != 0 ? told : home == node ? kLocalDistance : kRemoteDistance);
    }
    if (!near.empty() && shortest != kRemoteDistance) zones[shortest] |= homes_[home];
  }
  for (auto& [distance, cpus] : zones) device.zones.emplace_back(std::move(cpus), distance);
  return device;
}

Nearness Locality::nearness(const CpuSet& cpus, const Device& device) const {
  if (!device.known) return Nearness::package;
  const CpuSet online = cpus & topology_.cpus;
  if (online.is_subset_of(device.local)) return Nearness::local;
  if (online.is_subset_of(device.numa_node)) return Nearness::numa_node;
  if (online.is_subset_of(device.package)) return Nearness::package;
  return Nearness::remote;
}

std::uint64_t Locality::distance(const CpuSet& cpus, const Device& device) const {
  const CpuSet online = cpus & topology_.cpus;
  std::uint64_t rest = online.count();
  std::uint64_t sum = 0;
  for (const auto& [zone, distance] : device.zones) {
    const std::uint64_t count = (online & zone).count();
    sum += count * distance;
    rest -= count;
  }
  return sum + rest * kRemoteDistance;
}

PciPath Locality::path(const PciLocation& a, const PciLocation& b) const {
  if (a.function == b.function) return PciPath::one_switch;
  for (std::size_t hops = 0; hops < a.bridges.size(); ++hops) {
    const auto shared = std::find(b.bridges.begin(), b.bridges.end(), a.bridges[hops]);
    if (shared == b.bridges.end()) continue;
    // A switch is the bridge of its upstream port, which is shared, and one bridge of a downstream port on either side.
    const auto most = std::max(hops, static_cast<std::size_t>(shared - b.bridges.begin()));
    return most <= 1 ? PciPath::one_switch : PciPath::switches;
  }
  if (!a.host_bridge.empty() && a.host_bridge == b.host_bridge) return PciPath::host_bridge;
  for (const NumaNode& node : topology_.numa_nodes) {
    if (node.cpus != topology_.cpus && node.cpus.intersects(a.local_cpus) && node.cpus.intersects(b.local_cpus)) {
      return PciPath::numa_node;
    }
  }
  return one_domain_ ? PciPath::numa_node : PciPath::system;
}

}  // namespace berth
