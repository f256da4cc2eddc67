// Slurm's numbers of CPUs. Pure.
#pragma once

#include "launcher/core/inventory.hpp"

namespace berth {

/// Slurm numbers a node's CPUs socket by socket, core by core and thread by thread, in hwloc's order (slurm.conf(5),
/// "CPU_IDs" of `scontrol --details show job`), whatever Linux calls them. Where it counts fewer threads of a core than
/// there are, the core's CPU stands for all of them. Throws Error{host} if the machine does not have the CPUs.
CpuSet choose_linux_cpus(const Topology& topology, const CpuSet& slurm_cpus, unsigned threads_per_core);

}  // namespace berth
