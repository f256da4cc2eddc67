#include "launcher/core/irq_cpus.hpp"

#include <algorithm>

namespace berth {

std::vector<unsigned> choose_irq_cpus(const Topology& topology, const CpuSet& cpus, std::size_t count) {
  std::vector<CpuSet> cores;
  CpuSet rest = cpus;
  for (const CpuSet& core : topology.cores) {
    cores.push_back(core & rest);
    rest -= core;
  }
  for (const unsigned cpu : rest.to_vector()) cores.push_back(CpuSet::range(cpu, cpu));
  std::vector<unsigned> order;
  for (bool more = true; more;) {
    more = false;
    for (CpuSet& core : cores) {
      const auto cpu = core.first();
      if (!cpu) continue;
      order.push_back(*cpu);
      core.remove(*cpu);
      more = true;
    }
  }
  std::vector<unsigned> chosen;
  for (std::size_t irq = 0; irq < count && !order.empty(); ++irq) chosen.push_back(order[irq % order.size()]);
  return chosen;
}

}  // namespace berth
