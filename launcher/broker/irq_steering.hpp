// The interrupts of a leased device, beside its ranks as long as they have it.
#pragma once

#include <string>

#include "launcher/broker/journal.hpp"

namespace berth {

/// Leads each MSI interrupt of the berth's PCI function to one of `cpus`, those of its ranks; what served it before is
/// in the journal before the first change. Returns what was done, "IRQ 35 to CPU 4, …", with the reason for each
/// interrupt that the kernel keeps where it is; "" if the device has none. Throws Error{host} if the journal cannot be
/// written.
std::string steer_irqs(const Journal& journal, LeaseRecord& record, const Topology& topology, const CpuSet& cpus);

/// Undoes that, from whatever point it reached: each interrupt that still is the device's is served as `record` says,
/// which then says nothing any more. The caller writes the record. What the kernel refuses is said to syslog: a device
/// is not lost because of it.
void restore_irqs(LeaseRecord& record);

}  // namespace berth
