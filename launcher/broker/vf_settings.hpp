// A VF's attributes: set through its PF before use, read back, and restored after it.
#pragma once

#include <string>

#include "launcher/broker/journal.hpp"

namespace berth {

/// A VF as its PF's driver knows it.
struct VfTarget {
  std::string text;       ///< for messages: "VF 0 of pf0 (0000:21:10.0)"
  std::string driver;     ///< of the PF, for messages
  unsigned pf_index = 0;  ///< the PF's ifindex
  unsigned vf = 0;        ///< number of the VF
};

/// `all`, reduced to the fields that `like` has.
VfAttributes select(const VfAttributes& all, const VfAttributes& like);

/// Sets what `wanted` has, one attribute after the other, and waits until the driver reports each; tries again for a
/// while where the driver is busy. The caller keeps others from changing VFs of the same PF. Throws Error{host} naming
/// the attribute, the VF and `pool`, whose policy asks for it; what was set before it stays set.
void set_vf_attributes(const VfTarget& target, const std::string& pool, const VfAttributes& wanted);

/// Everything that the PF's driver reports of `vf`. Throws Error{host}.
VfAttributes read_vf_settings(const PciAddress& vf);

/// Sets what `berth.vf` wants, and waits for other changes of the same PF. Does nothing if nothing is wanted. Throws
/// like set_vf_attributes().
void apply_vf_settings(const Journal& journal, const BerthSpec& berth);

/// Sets what `record.berth.vf` may have changed back to what `record.original.vf` says. Throws like
/// set_vf_attributes().
void restore_vf_settings(const Journal& journal, const LeaseRecord& record);

}  // namespace berth
