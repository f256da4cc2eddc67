// Berths of devices that this process has locked: set up, taken down, rebuilt. How a device moves is device_moves'
// business.
#pragma once

#include "launcher/broker/journal.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// A container's netns that a device is to be brought into, and who has it then.
struct ForeignNetns {
  const UniqueFd& netns;
  const LeaseOwner& owner;
};

/// Builds the berth of `record.berth` in a new netns, in that of the berth that it joins, or in `foreign`: written down
/// as parking before, as parked (leased) after; `record` follows. Nothing of an earlier one may be left (take_down).
/// Returns the netns. Throws Error{host} and leaves the rest to take_down().
UniqueFd set_up(const Journal& journal, LeaseRecord& record, const ForeignNetns* foreign = nullptr);

/// Undoes set_up(), from whatever point it or an earlier take_down() reached: kills what is left in a netns of ours,
/// deletes the macvlan or brings the device home as `record.original` says (after those that joined it), unpins the
/// netns. The record stays, as unparking. The caller holds the berth that the device joined, too (lock_joined_berth()).
/// Returns what was done, as Repair::action says it. Throws Error{host} if that cannot be done.
std::string take_down(const Journal& journal, LeaseRecord& record);

/// The lock of the berth that the record's device has joined, if there still is such a berth. Whoever takes the device
/// home holds it: else whoever empties that berth could take him, inside for a moment, for a leftover, and kill him.
/// Throws Error{busy}.
std::optional<Lock> lock_joined_berth(const Journal& journal, const LeaseRecord& record);

/// Brings home what joined the berth, as far as nobody else is at it, and forgets it. Whether nothing is left;
/// `record.joined`, written down, says what is.
bool bring_joined_home(const Journal& journal, LeaseRecord& record);

/// Removes what take_down() left in the journal; from now on the device is the administrator's again.
void forget(const Journal& journal, const BerthSpec& berth);

/// Takes down what is there (if anything) and sets up `spec`. If it throws, everything is undone and nothing is left in
/// the journal, or else the device is quarantined.
UniqueFd rebuild(const Journal& journal, LeaseRecord& record, const BerthSpec& spec,
                 const ForeignNetns* foreign = nullptr);

/// The berth's netns, if it is the one of the record.
std::optional<UniqueFd> open_recorded_netns(const Journal& journal, const LeaseRecord& record);

/// Whether the berth's device is in `netns` and up, and its RDMA device free; a macvlan also needs a parent with a
/// link, if `with_link`.
bool has_device(const LeaseRecord& record, const UniqueFd& netns, bool with_link);

/// Records why the device must not be used.
void quarantine(const Journal& journal, LeaseRecord& record, const Error& error);

}  // namespace berth
