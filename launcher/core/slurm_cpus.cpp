#include "launcher/core/slurm_cpus.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/core/error.hpp"

namespace berth {

CpuSet choose_linux_cpus(const Topology& topology, const CpuSet& slurm_cpus, unsigned threads_per_core) {
  const unsigned threads = std::max(threads_per_core, 1U);
  CpuSet cpus;
  for (const unsigned cpu : slurm_cpus.to_vector()) {
    const std::size_t core = cpu / threads;
    const CpuSet none;
    const CpuSet& all = core < topology.cores.size() ? topology.cores[core] : none;
    const std::vector<unsigned> own = all.to_vector();
    if (own.size() < threads)
      throw Error(ErrorCode::host, "cannot tell which CPUs the job has",
                  fmt::format("Slurm gave it CPU {} of {} per core, and the machine has {} cores", cpu, threads,
                              topology.cores.size()),
                  "compare the node's line in slurm.conf with `slurmd -C`, or give --cpu-mask");
    if (own.size() > threads) {
      cpus |= all;
    } else {
      cpus.add(own[cpu % threads]);
    }
  }
  return cpus;
}

}  // namespace berth
