// Making berths leasable again; the common part of release(), park() and repair().
#pragma once

#include <string>
#include <vector>

#include "launcher/broker/berth.hpp"

namespace berth {

/// What joins a berth comes together with that. Empties all berths at once, with one look at /proc for all of them, and
/// parks each (or brings it home, with Park::never). Returns what was done, as Repair::action says it, in the same
/// order. Throws Error{host} only if the journal cannot be written.
std::vector<std::string> settle(const Journal& journal, std::vector<HeldBerth>& berths, int patience_ms,
                                int empty_passes = 0);

/// Waits a moment for the number of sockets in each netns to become zero; the numbers at last.
std::vector<unsigned> wait_for_no_sockets(const std::vector<const UniqueFd*>& netns);

}  // namespace berth
