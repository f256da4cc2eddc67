// CPU affinity and memory policy of the calling thread.
#pragma once

#include "launcher/core/values.hpp"

namespace berth {

/// CPUs that process or thread `pid` (0: the calling thread) may run on. Throws Error{host}.
CpuSet read_affinity(int pid = 0);

/// Pins the calling thread, and what it starts from now on. Throws Error{host} if no CPU of the set is online or inside
/// the cpuset of the cgroup, or if the kernel granted less than all of them.
void apply_affinity(const CpuSet& cpus);

/// Lets the calling thread run on every CPU that its cgroup allows.
void apply_widest_affinity();

/// Takes memory from these NUMA nodes only (MPOL_BIND); an empty set restores the default policy. Throws Error{host}.
void apply_memory_nodes(const CpuSet& numa_nodes);

}  // namespace berth
