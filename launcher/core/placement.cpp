#include "launcher/core/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "launcher/core/assignment.hpp"
#include "launcher/core/cpu_shares.hpp"

namespace berth {
namespace {

/// How near a rank's CPUs are to a device, by the farthest of them; smaller is better.
enum class Nearness { local, same_numa_node, unknown, remote };

struct Distance {
  Nearness nearness = Nearness::unknown;
  std::uint64_t cpus_outside = 0;  ///< per mille of the rank's CPUs: tells straddling ranks from wholly remote ones
  auto operator<=>(const Distance&) const = default;
};

/// The CPUs of the device's NUMA node, or those that the device names itself; empty: unknown.
CpuSet near_cpus(const Topology& topology, const PlacementDevice& device) {
  if (numa_domains(topology).size() == 1) return topology.cpus;
  if (device.numa_node) {
    for (const NumaNode& node : topology.numa_nodes) {
      if (node.os_index == *device.numa_node && !node.cpus.empty()) return node.cpus;
    }
  }
  // Firmware that knows nothing reports the whole machine.
  return topology.cpus.is_subset_of(device.local_cpus) ? CpuSet{} : device.local_cpus;
}

/// Distance of `cpus` from a device that has the CPUs `near` near it.
Distance measure(const PlacementDevice& device, const CpuSet& near, const CpuSet& cpus) {
  if (near.empty()) return {Nearness::unknown, 0};
  const std::uint64_t outside = (cpus - near).count() * 1000ULL / cpus.count();
  if (outside > 0 || !cpus.is_subset_of(near)) return {Nearness::remote, outside};
  const bool finer = !device.local_cpus.empty() && !cpus.is_subset_of(device.local_cpus);
  return {finer ? Nearness::same_numa_node : Nearness::local, 0};
}

/// Numbers the ports in the order of their first device.
std::vector<std::size_t> number_ports(const std::vector<PlacementDevice>& devices) {
  std::map<std::string, std::size_t> numbers;
  std::vector<std::size_t> ports;
  for (const PlacementDevice& device : devices)
    ports.push_back(numbers.emplace(device.port, numbers.size()).first->second);
  return ports;
}

/// Speed of each port by its fastest device; unknown speeds count as the slowest known one.
std::vector<std::uint32_t> port_speeds(const std::vector<PlacementDevice>& devices,
                                       const std::vector<std::size_t>& port_of) {
  std::vector<std::uint32_t> speeds(*std::max_element(port_of.begin(), port_of.end()) + 1, 0);
  std::uint32_t slowest = 0;
  for (std::size_t device = 0; device < devices.size(); ++device) {
    const std::uint32_t speed = devices[device].speed_mbps;
    speeds[port_of[device]] = std::max(speeds[port_of[device]], speed);
    if (speed > 0 && (slowest == 0 || speed < slowest)) slowest = speed;
  }
  for (std::uint32_t& speed : speeds) speed = speed == 0 ? std::max(slowest, 1U) : speed;
  return speeds;
}

/// Levels of Cost. Locality: how many ranks are remote, on devices of unknown place, beside but not next to their
/// device, and how much of straddling ranks is outside. Load: load² / speed over ports, then load² over devices.
AssignmentProblem make_assignment(const PlacementProblem& problem, const std::vector<CpuSet>& cpus) {
  const bool locality_first = problem.order == PlacementOrder::locality;
  const std::size_t locality = locality_first ? 0 : 2;
  const std::size_t load = locality_first ? 4 : 0;
  constexpr std::int64_t kScale = 1'000'000'000'000;  // speeds are below 2^32 Mb/s: the quotient keeps its digits

  AssignmentProblem assignment;
  assignment.port_of = number_ports(problem.devices);
  for (const std::uint32_t speed : port_speeds(problem.devices, assignment.port_of)) {
    assignment.port_costs.push_back({});
    assignment.port_costs.back()[load] = kScale / speed;
  }
  assignment.device_cost[load + 1] = 1;
  assignment.capacity = (cpus.size() + problem.devices.size() - 1) / problem.devices.size();
  assignment.costs.resize(cpus.size());
  for (const PlacementDevice& device : problem.devices) {
    const CpuSet near = near_cpus(problem.topology, device);
    for (std::size_t rank = 0; rank < cpus.size(); ++rank) {
      const Distance distance = measure(device, near, cpus[rank]);
      Cost& cost = assignment.costs[rank].emplace_back(Cost{});
      cost[locality] = distance.nearness == Nearness::remote ? 1 : 0;
      cost[locality + 1] = distance.nearness == Nearness::unknown ? 1 : 0;
      cost[locality + 2] = distance.nearness == Nearness::same_numa_node ? 1 : 0;
      cost[locality + 3] = static_cast<std::int64_t>(distance.cpus_outside);
    }
  }
  return assignment;
}

std::string numa_text(const Topology& topology, const CpuSet& cpus) {
  std::string nodes;
  for (const NumaNode& node : topology.numa_nodes) {
    if (!node.cpus.intersects(cpus)) continue;
    nodes += fmt::format("{}{}", nodes.empty() ? "" : ",", node.os_index);
  }
  return nodes.find(',') == std::string::npos ? "NUMA node " + nodes : "NUMA nodes " + nodes;
}

std::string device_place(const Topology& topology, const PlacementDevice& device) {
  if (device.numa_node) return fmt::format("NUMA node {}", *device.numa_node);
  return numa_text(topology, device.local_cpus);
}

std::string explain(const PlacementProblem& problem, const PlacementDevice& device, const CpuSet& cpus) {
  const Topology& topology = problem.topology;
  if (numa_domains(topology).size() == 1) return "the node has one NUMA domain";
  switch (const Distance distance = measure(device, near_cpus(topology, device), cpus); distance.nearness) {
    case Nearness::local:
      return "local to " + device_place(topology, device);
    case Nearness::same_numa_node:
      return "on the rank's " + device_place(topology, device) + ", but not next to its cores";
    case Nearness::unknown:
      return "the device's NUMA node is unknown";
    case Nearness::remote:
      if (distance.cpus_outside < 1000) {
        return fmt::format("the rank's CPUs span {}, the device is on {}", numa_text(topology, cpus),
                           device_place(topology, device));
      }
      break;
  }
  return fmt::format("remote: device on {}, CPUs on {}", device_place(topology, device), numa_text(topology, cpus));
}

}  // namespace

std::optional<std::vector<PlacementChoice>> choose_placement(const PlacementProblem& problem) {
  const std::size_t ranks = problem.allowed_cpus.size();
  const std::size_t devices = problem.devices.size();
  if (ranks == 0) return std::vector<PlacementChoice>{};
  if (devices == 0 || (devices < ranks && problem.shortage == Shortage::fail)) return std::nullopt;

  const std::vector<CpuSet> cpus = choose_cpus(problem.topology, problem.allowed_cpus);
  const AssignmentProblem assignment = make_assignment(problem, cpus);
  const std::vector<std::size_t> assigned = assign_devices(assignment);
  std::vector<std::size_t> device_load(devices, 0);
  std::vector<std::size_t> port_load(assignment.port_costs.size(), 0);
  for (const std::size_t device : assigned) {
    ++device_load[device];
    ++port_load[assignment.port_of[device]];
  }

  std::vector<PlacementChoice> choices;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const PlacementDevice& device = problem.devices[assigned[rank]];
    std::string reason = explain(problem, device, cpus[rank]);
    const std::size_t sharing = device_load[assigned[rank]];
    if (sharing > 1) reason += fmt::format(", shared by {} ranks", sharing);
    reason += fmt::format(", port {} carries {} of {} rank{}", device.port,
                          port_load[assignment.port_of[assigned[rank]]], ranks, ranks == 1 ? "" : "s");
    choices.push_back({assigned[rank], cpus[rank], std::move(reason)});
  }
  return choices;
}

}  // namespace berth
