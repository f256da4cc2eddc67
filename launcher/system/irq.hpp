// Interrupts of PCI functions and the CPUs that serve them: msi_irqs of sysfs (Documentation/ABI/testing/sysfs-bus-pci)
// and /proc/irq (Documentation/core-api/irq/irq-affinity.rst).
#pragma once

#include <optional>
#include <vector>

#include "launcher/core/values.hpp"

namespace berth {

/// Linux's numbers of the function's MSI and MSI-X interrupts, ascending; none if it has no such or is not there.
std::vector<unsigned> read_msi_irqs(const PciAddress& pci);

/// The CPUs that may serve an interrupt; nullopt if there is no such interrupt, or no driver has ever asked for it.
std::optional<CpuSet> read_irq_affinity(unsigned irq);

/// Returns 0 or an errno: EIO and EPERM for an interrupt whose affinity is the kernel's own matter (a managed one),
/// EINVAL if none of `cpus` is online, ENOENT if it is gone. Needs root in the initial user namespace.
int apply_irq_affinity(unsigned irq, const CpuSet& cpus);

}  // namespace berth
