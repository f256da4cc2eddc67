// Which rank gets which device and which CPUs. Pure, and free of names: the planner translates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// What to do when there are fewer devices than ranks.
enum class Shortage { fail, share };
/// What counts first: ranks near their device, or even load on the physical ports.
enum class PlacementOrder { locality, balance };

struct PlacementDevice {
  std::string port;                   ///< devices with the same port share one wire; load is balanced over ports
  std::optional<unsigned> numa_node;  ///< empty: unknown, which is neutral: neither local nor remote
  CpuSet local_cpus;                  ///< empty: unknown
  std::uint32_t speed_mbps = 0;       ///< 0: unknown
};

struct PlacementProblem {
  Topology topology;
  std::vector<CpuSet> allowed_cpus;  ///< one per rank, in rank order; never left
  std::vector<PlacementDevice> devices;
  Shortage shortage = Shortage::fail;
  PlacementOrder order = PlacementOrder::locality;
};

struct PlacementChoice {
  std::size_t device = 0;  ///< index into PlacementProblem::devices
  CpuSet cpus;             ///< non-empty subset of the rank's allowed CPUs
  std::string reason;      ///< "local to NUMA node 0, port pf0 carries 1 of 2 ranks"
};

/// One choice per rank; nullopt if `shortage` is fail and there are fewer devices than ranks.
/// Ranks whose allowed CPUs overlap get disjoint cores as long as there is one core per rank.
std::optional<std::vector<PlacementChoice>> choose_placement(const PlacementProblem& problem);

}  // namespace berth
