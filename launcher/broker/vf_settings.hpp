// A VF's attributes: set through its PF before use, read back, and restored after it.
#pragma once

#include "launcher/broker/journal.hpp"

namespace berth {

/// Everything that the PF's driver reports of `vf`. Throws Error{host}.
VfAttributes read_vf_settings(const PciAddress& vf);

/// Sets what `berth.vf` wants and waits until the driver reports it; waits for other changes of the same PF, and tries
/// again for a while where the driver is busy. Does nothing if nothing is wanted. Throws Error{host} naming the
/// attribute, PF and VF; what was set before it stays set.
void apply_vf_settings(const Journal& journal, const BerthSpec& berth);

/// Sets what `record.berth.vf` may have changed back to what `record.original.vf` says. Throws like
/// apply_vf_settings().
void restore_vf_settings(const Journal& journal, const LeaseRecord& record);

}  // namespace berth
