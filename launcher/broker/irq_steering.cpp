#include "launcher/broker/irq_steering.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <syslog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "launcher/broker/device_moves.hpp"
#include "launcher/core/irq_cpus.hpp"
#include "launcher/system/irq.hpp"

namespace berth {

std::string steer_irqs(const Journal& journal, LeaseRecord& record, const Topology& topology, const CpuSet& cpus) {
  if (!record.berth.pci) return {};
  std::vector<IrqAffinity> originals;
  for (const unsigned irq : read_msi_irqs(*record.berth.pci))
    if (const auto own = read_irq_affinity(irq)) originals.push_back({irq, *own});
  const std::vector<unsigned> chosen = choose_irq_cpus(topology, cpus & topology.cpus, originals.size());
  if (chosen.empty()) return {};
  record.irqs = originals;
  journal.write(record);
  std::vector<std::string> done;
  bool is_refused = false;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const unsigned irq = originals[i].irq;
    const int error = apply_irq_affinity(irq, CpuSet::range(chosen[i], chosen[i]));
    is_refused |= error != 0;
    done.push_back(error == 0 ? fmt::format("IRQ {} to CPU {}", irq, chosen[i])
                   : error == EIO || error == EPERM
                       ? fmt::format("IRQ {} stays where the kernel manages it", irq)
                       : fmt::format("IRQ {} stays: {}", irq, system_error(error, {}, "write").why));
  }
  std::string text = fmt::format("{}", fmt::join(done, ", "));
  if (is_refused) syslog(LOG_NOTICE, "device %s: %s", record.berth.id.c_str(), text.c_str());
  return text;
}

void restore_irqs(LeaseRecord& record) {
  const std::vector<IrqAffinity> originals = std::exchange(record.irqs, {});
  // What has the address of a function that was removed is not ours to touch, and numbers of interrupts that are gone
  // are given to others.
  if (originals.empty() || !record.berth.pci || !still_exists(record)) return;
  const std::vector<unsigned> present = read_msi_irqs(*record.berth.pci);
  for (const auto& [irq, cpus] : originals) {
    if (!std::ranges::binary_search(present, irq) || read_irq_affinity(irq) == cpus) continue;
    const int error = apply_irq_affinity(irq, cpus);
    if (error != 0 && error != EIO && error != EPERM)
      syslog(LOG_WARNING, "device %s: IRQ %u is not served by CPUs %s again: %s", record.berth.id.c_str(), irq,
             to_string(cpus).c_str(), system_error(error, {}, "write").why.c_str());
  }
}

}  // namespace berth
