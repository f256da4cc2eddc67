// Which CPUs each rank runs on: masks of the scheduler stay, a common pool of CPUs is divided. Pure.
#pragma once

#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// The distinct, non-empty CPU sets of the NUMA nodes, in the order of the first node that has them; all CPUs as one
/// domain if the topology names no NUMA node.
std::vector<CpuSet> numa_domains(const Topology& topology);

/// One set per entry of `allowed` (in the same order), never empty where the mask is not, never outside it. A mask
/// that no other rank overlaps is kept. Ranks with overlapping masks get disjoint whole cores, hyperthreads together,
/// near each other and as even as NUMA nodes allow; with fewer cores than ranks disjoint hardware threads; with fewer
/// of those than ranks everybody keeps its mask, because pinning two ranks to one thread only hurts.
std::vector<CpuSet> choose_cpus(const Topology& topology, const std::vector<CpuSet>& allowed);

}  // namespace berth
