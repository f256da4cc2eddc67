// A device's way into its berth and home again: what is done to the device itself, and in which order. The callers hold
// its lock and keep the journal. All functions throw Error{host}.
#pragma once

#include <optional>

#include "launcher/broker/journal.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// What bring_home() has to restore, read before the first change; empty for a macvlan, which is only created. Throws
/// if the device is not on the host, or a macvlan's parent could not carry it.
OriginalState read_original(const BerthSpec& berth);

/// Whether the device of the record can be brought home at all: not if its PCI function has been removed meanwhile,
/// even if another has its address now.
bool still_exists(const LeaseRecord& record);

/// Brings the device into the berth's netns under the name it has there: down, without addresses.
void bring_in(const Journal& journal, LeaseRecord& record, const UniqueFd& netns);

/// Undoes bring_in(), however far that or an earlier bring_home() got: the device is on the host as `record.original`
/// says, a macvlan is gone. `netns`: the berth's, if it exists; nobody is in it any more.
void bring_home(const Journal& journal, const LeaseRecord& record, const std::optional<UniqueFd>& netns);

/// The MAC address that the device has in its berth.
MacAddress berth_mac(const LeaseRecord& record);

}  // namespace berth
