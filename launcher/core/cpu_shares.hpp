// Which CPUs each rank runs on: masks of the scheduler stay, a common pool of CPUs is divided. Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// Ranks that may all use the same CPUs, which nobody else may use: at least one for each NUMA domain, so that no rank
/// needs to straddle two of them.
struct CpuPool {
  std::vector<std::size_t> ranks;            ///< ascending
  std::vector<std::vector<CpuSet>> domains;  ///< the cores of each domain, or their threads if there are too few cores
};
std::vector<CpuPool> find_cpu_pools(const Topology& topology, const std::vector<CpuSet>& allowed);

/// One set per entry of `allowed` (in the same order), never empty where the mask is not, never outside it. A mask
/// that no other rank overlaps is kept. Ranks with overlapping masks get disjoint whole cores, hyperthreads together,
/// near each other and as even as NUMA nodes allow; with fewer cores than ranks disjoint hardware threads; with fewer
/// of those than ranks everybody keeps its mask, because pinning two ranks to one thread only hurts.
/// Fewer ranks than NUMA domains get several whole domains each: no core is left over.
/// `loads`: of each of `pools` (find_cpu_pools() of the same), how many of its ranks each domain gets.
std::vector<CpuSet> choose_cpus(const Topology& topology, const std::vector<CpuSet>& allowed,
                                const std::vector<CpuPool>& pools, const std::vector<std::vector<std::size_t>>& loads);
/// The same with the loads that minimise the sum of load² / cores.
std::vector<CpuSet> choose_cpus(const Topology& topology, const std::vector<CpuSet>& allowed);

}  // namespace berth
