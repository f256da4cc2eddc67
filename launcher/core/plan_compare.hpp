// What other launchers and libraries would choose, measured like a plan of ours. Pure.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/placement.hpp"

namespace berth {

/// How a policy places the ranks of a problem. All policies get the CPUs that Berth chose, so that only the choice of
/// devices differs.
struct ComparedPlacement {
  std::string_view policy;                ///< "berth", "block", "round-robin", "numa", "first-free"
  std::string_view meaning;               ///< in a few words
  std::vector<PlacementChoice> choices;   ///< devices and CPUs only
  std::size_t remote = 0;                 ///< ranks whose CPUs are remote from their device
  std::size_t worst_port = 0;             ///< ranks on the port that has most
  double distance = 0;                    ///< mean of the ranks' distances from their devices
  std::size_t shared = 0;                 ///< ranks that got a device which was another's already
  std::vector<PlacementLevel> objective;  ///< measure_placement()
};

/// `best` (choose_placement() of `problem`, one device per rank) and what stands in its place elsewhere:
///   block        ranks in order fill one device after the other (Cray MPICH's default)
///   round-robin  ranks go round the ports, wherever they are (MVAPICH2's default)
///   numa         each rank alone takes a nearest device, going round those that are equally near, taken or not
///                (Cray's NUMA policy, MPICH)
///   first-free   in rank order, each takes the nearest device that is still free (Slurm's per_task)
/// The first entry is `best`.
std::vector<ComparedPlacement> compare_placements(const PlacementProblem& problem, const Placement& best);

/// An array, docs/json.md has the form.
nlohmann::json to_json_value(const std::vector<ComparedPlacement>& compared, const std::vector<std::string>& devices);

}  // namespace berth
