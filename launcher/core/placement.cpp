#include "launcher/core/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

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
  if (device.numa_node) {
    for (const NumaNode& node : topology.numa_nodes) {
      if (node.os_index == *device.numa_node && !node.cpus.empty()) return node.cpus;
    }
  }
  // Firmware that knows nothing reports the whole machine.
  return topology.cpus.is_subset_of(device.local_cpus) ? CpuSet{} : device.local_cpus;
}

Distance measure(const Topology& topology, const PlacementDevice& device, const CpuSet& cpus) {
  if (numa_domains(topology).size() == 1) return {Nearness::local, 0};
  const CpuSet near = near_cpus(topology, device);
  if (near.empty()) return {Nearness::unknown, 0};
  const std::uint64_t outside = (cpus - near).count() * 1000ULL / cpus.count();
  if (outside > 0 || !cpus.is_subset_of(near)) return {Nearness::remote, outside};
  const bool finer = !device.local_cpus.empty() && !cpus.is_subset_of(device.local_cpus);
  return {finer ? Nearness::same_numa_node : Nearness::local, 0};
}

/// Which devices carry how much so far, and what one rank more would cost.
class Load {
 public:
  explicit Load(const std::vector<PlacementDevice>& devices) : devices_(devices), ranks_(devices.size(), 0) {
    std::uint32_t slowest = 0;
    for (const PlacementDevice& device : devices) {
      if (device.speed_mbps > 0 && (slowest == 0 || device.speed_mbps < slowest)) slowest = device.speed_mbps;
    }
    unknown_speed_ = std::max(slowest, 1U);
  }

  [[nodiscard]] std::size_t ranks_of(std::size_t device) const { return ranks_[device]; }
  [[nodiscard]] std::size_t ranks_of_port(const std::string& port) const {
    const auto found = port_ranks_.find(port);
    return found == port_ranks_.end() ? 0 : found->second;
  }
  /// The growth of load² / speed of the port: even loads in proportion to speed have the least sum.
  [[nodiscard]] std::uint64_t port_cost(std::size_t device) const {
    constexpr std::uint64_t kScale = 1'000'000'000'000;  // speeds are below 2^32 Mb/s: the quotient keeps its digits
    const PlacementDevice& d = devices_[device];
    return (2 * ranks_of_port(d.port) + 1) * (kScale / (d.speed_mbps == 0 ? unknown_speed_ : d.speed_mbps));
  }
  void add(std::size_t device) {
    ++ranks_[device];
    ++port_ranks_[devices_[device].port];
  }

 private:
  const std::vector<PlacementDevice>& devices_;
  std::vector<std::size_t> ranks_;
  std::map<std::string, std::size_t> port_ranks_;
  std::uint32_t unknown_speed_ = 1;
};

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
  switch (const Distance distance = measure(topology, device, cpus); distance.nearness) {
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

/// The device of each rank, ranks in order, each taking what is best for it now.
std::vector<std::size_t> assign_devices(const PlacementProblem& problem, const std::vector<CpuSet>& cpus,
                                        std::size_t capacity) {
  Load load(problem.devices);
  std::vector<std::size_t> assigned;
  for (const CpuSet& mask : cpus) {
    using Cost = std::tuple<Distance, std::uint64_t, Distance, std::size_t>;
    std::optional<std::pair<Cost, std::size_t>> best;
    for (std::size_t device = 0; device < problem.devices.size(); ++device) {
      if (load.ranks_of(device) == capacity) continue;
      const Distance distance = measure(problem.topology, problem.devices[device], mask);
      const bool locality_first = problem.order == PlacementOrder::locality;
      const Cost cost{locality_first ? distance : Distance{}, load.port_cost(device), distance, load.ranks_of(device)};
      if (!best || cost < best->first) best = {cost, device};
    }
    load.add(best->second);
    assigned.push_back(best->second);
  }
  return assigned;
}

}  // namespace

std::optional<std::vector<PlacementChoice>> choose_placement(const PlacementProblem& problem) {
  const std::size_t ranks = problem.allowed_cpus.size();
  const std::size_t devices = problem.devices.size();
  if (ranks == 0) return std::vector<PlacementChoice>{};
  if (devices == 0 || (devices < ranks && problem.shortage == Shortage::fail)) return std::nullopt;

  const std::vector<CpuSet> cpus = choose_cpus(problem.topology, problem.allowed_cpus);
  const std::vector<std::size_t> assigned = assign_devices(problem, cpus, (ranks + devices - 1) / devices);
  Load load(problem.devices);
  for (const std::size_t device : assigned) load.add(device);

  std::vector<PlacementChoice> choices;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const PlacementDevice& device = problem.devices[assigned[rank]];
    std::string reason = explain(problem, device, cpus[rank]);
    if (load.ranks_of(assigned[rank]) > 1) {
      reason += fmt::format(", shared by {} ranks", load.ranks_of(assigned[rank]));
    }
    reason += fmt::format(", port {} carries {} of {} rank{}", device.port, load.ranks_of_port(device.port), ranks,
                          ranks == 1 ? "" : "s");
    choices.push_back({assigned[rank], cpus[rank], std::move(reason)});
  }
  return choices;
}

}  // namespace berth
