#include "launcher/core/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "launcher/core/cpu_shares.hpp"
#include "launcher/core/placement_costs.hpp"

namespace berth {
namespace {

std::string numa_text(const Topology& topology, const CpuSet& cpus) {
  std::string nodes;
  for (const NumaNode& node : topology.numa_nodes) {
    if (!node.cpus.intersects(cpus)) continue;
    nodes += fmt::format("{}{}", nodes.empty() ? "" : ",", node.os_index);
  }
  return nodes.find(',') == std::string::npos ? "NUMA node " + nodes : "NUMA nodes " + nodes;
}

std::string explain_nearness(const Topology& topology, const PlacementCosts& costs, std::size_t device,
                             const CpuSet& local, const CpuSet& cpus) {
  if (costs.locality().has_one_domain()) return "the node has one NUMA domain";
  if (!costs.place(device).known) return "the device's NUMA node is unknown";
  const std::string place = numa_text(topology, local);
  switch (costs.locality().nearness(cpus, costs.place(device))) {
    case Nearness::local:
      return "local to " + place;
    case Nearness::numa_node:
      return "on the rank's " + place + ", but not next to its cores";
    case Nearness::package:
    case Nearness::remote:
      break;
  }
  const std::string own = numa_text(topology, cpus);
  if (cpus.intersects(costs.place(device).numa_node))
    return fmt::format("the rank's CPUs span {}, the device is on {}", own, place);
  const bool same_package = cpus.is_subset_of(costs.place(device).package);
  return fmt::format("{}: device on {}, CPUs on {}", same_package ? "same package" : "remote", place, own);
}

/// How many ranks of each pool of CPUs go to which of its NUMA domains: evenly by cores first, then so that devices
/// fit.
std::vector<std::vector<std::size_t>> choose_pool_loads(const PlacementProblem& problem,
                                                        const std::vector<CpuPool>& pools,
                                                        const std::vector<std::size_t>& capacities) {
  std::vector<std::vector<std::size_t>> loads;
  if (pools.empty()) return loads;
  PlacementCosts costs(problem);
  std::vector<std::vector<std::size_t>> rows_of(problem.ranks.size());
  std::map<std::size_t, std::pair<std::size_t, std::size_t>> place_of;  // row → pool, domain
  std::vector<std::uint64_t> cores;
  std::vector<std::size_t> room;
  for (std::size_t number = 0; number < pools.size(); ++number) {
    const CpuPool& pool = pools[number];
    loads.emplace_back(pool.domains.size(), 0);
    std::vector<std::size_t> rows;
    for (std::size_t domain = 0; domain < pool.domains.size(); ++domain) {
      CpuSet cpus;
      for (const CpuSet& unit : pool.domains[domain]) cpus |= unit;
      // Ranks of one pool with different GPUs count as the first of them here.
      rows.push_back(costs.add_own_row(cpus, problem.ranks[pool.ranks.front()].gpu));
      place_of[rows.back()] = {number, domain};
      cores.push_back(pool.domains[domain].size());
      room.push_back(pool.domains[domain].size());
    }
    for (const std::size_t rank : pool.ranks) rows_of[rank] = rows;
  }
  for (std::size_t rank = 0; rank < rows_of.size(); ++rank) {
    if (rows_of[rank].empty())
      rows_of[rank] = {costs.add_row(problem.ranks[rank].allowed_cpus, problem.ranks[rank].gpu)};
  }
  cores.resize(costs.rows(), 1);
  room.resize(costs.rows(), problem.ranks.size());

  AssignmentProblem assignment = costs.make_assignment(std::move(rows_of), capacities);
  assignment.row_room = std::move(room);
  assignment.devices_per_rank = 1;
  assignment.levels.insert(assignment.levels.begin(), {CostLevel::Over::rows, {}, std::move(cores)});
  const std::vector<std::size_t> row_loads = choose_row_loads(assignment);
  for (const auto& [row, place] : place_of) loads[place.first][place.second] = row_loads[row];
  return loads;
}

/// The facts about one rank's choice that follow from its devices and CPUs.
void describe(const PlacementProblem& problem, const PlacementCosts& costs, const std::vector<std::size_t>& device_load,
              const std::vector<std::size_t>& port_load, std::size_t rank, PlacementChoice& choice) {
  if (choice.devices.empty()) {
    choice.reason = "no device is left";
    return;
  }
  choice.nearness = Nearness::local;
  for (const std::size_t device : choice.devices) {
    choice.nearness = std::max(choice.nearness, costs.locality().nearness(choice.cpus, costs.place(device)));
    if (const auto& gpu = problem.ranks[rank].gpu) {
      const PciPath path = costs.locality().path(*gpu, problem.devices[device].location);
      choice.gpu_path = std::max(choice.gpu_path.value_or(path), path);
    }
    if (!choice.reason.empty()) choice.reason += "; ";
    choice.reason += explain_nearness(problem.topology, costs, device, problem.devices[device].local_cpus, choice.cpus);
    if (problem.ranks[rank].gpu)
      choice.reason +=
          fmt::format(", {} to its GPU",
                      to_string(costs.locality().path(*problem.ranks[rank].gpu, problem.devices[device].location)));
    if (device_load[device] > 1) choice.reason += fmt::format(", shared by {} ranks", device_load[device]);
    choice.reason +=
        fmt::format(", port {} carries {} of {} rank{}", problem.devices[device].port, port_load[costs.port_of(device)],
                    problem.ranks.size(), problem.ranks.size() == 1 ? "" : "s");
  }
}

}  // namespace

std::string_view to_string(Shortage shortage) {
  return shortage == Shortage::fail ? "fail" : shortage == Shortage::share ? "share" : "some";
}

std::optional<Shortage> parse_shortage(std::string_view text) {
  for (const Shortage shortage : {Shortage::fail, Shortage::share, Shortage::some}) {
    if (text == to_string(shortage)) return shortage;
  }
  return std::nullopt;
}

std::string_view to_string(PlacementOrder order) { return order == PlacementOrder::locality ? "locality" : "balance"; }

std::optional<PlacementOrder> parse_placement_order(std::string_view text) {
  for (const PlacementOrder order : {PlacementOrder::locality, PlacementOrder::balance}) {
    if (text == to_string(order)) return order;
  }
  return std::nullopt;
}

std::optional<Placement> choose_placement(const PlacementProblem& problem) {
  Placement placement;
  if (problem.ranks.empty()) return placement;
  const auto capacities = choose_capacities(problem);
  if (!capacities) return std::nullopt;

  std::vector<CpuSet> allowed;
  for (const PlacementRank& rank : problem.ranks) allowed.push_back(rank.allowed_cpus);
  const std::vector<CpuPool> pools = find_cpu_pools(problem.topology, allowed);
  const std::vector<CpuSet> cpus =
      choose_cpus(problem.topology, allowed, pools, choose_pool_loads(problem, pools, *capacities));

  PlacementCosts costs(problem);
  std::vector<std::vector<std::size_t>> rows_of;
  for (std::size_t rank = 0; rank < cpus.size(); ++rank)
    rows_of.push_back({costs.add_row(cpus[rank], problem.ranks[rank].gpu)});
  const auto assigned = assign_devices(costs.make_assignment(std::move(rows_of), *capacities));

  std::vector<std::size_t> device_load(problem.devices.size(), 0);
  std::vector<std::size_t> port_load(problem.devices.size(), 0);
  for (std::size_t rank = 0; rank < assigned.size(); ++rank) {
    placement.choices.push_back({assigned[rank], cpus[rank], Nearness::package, {}, {}});
    for (const std::size_t device : assigned[rank]) {
      ++device_load[device];
      ++port_load[costs.port_of(device)];
    }
  }
  for (std::size_t rank = 0; rank < assigned.size(); ++rank)
    describe(problem, costs, device_load, port_load, rank, placement.choices[rank]);
  placement.objective = measure_placement(problem, placement.choices);
  return placement;
}

std::vector<PlacementLevel> measure_placement(const PlacementProblem& problem,
                                              const std::vector<PlacementChoice>& choices) {
  return PlacementCosts(problem).measure(choices);
}

}  // namespace berth
