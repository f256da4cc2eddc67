// A berth's life: park, lease, prove empty, release, unpark. Every step is written down before it is done, and each
// function may be repeated after a crash at any point of it.
#pragma once

#include <string>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// A parked device that this process has locked.
struct HeldBerth {
  Lock lock;
  LeaseRecord record;
  UniqueFd netns;  ///< the berth's network namespace, or that of the one which it joins
};

/// A device that this process has locked and is going to use.
struct Claim {
  BerthSpec spec;
  Lock lock;
};

/// Locks the devices of all `specs`, or none; quick, so that it can be done under the node lock. `owner` is who is said
/// to hold them. Throws Error{busy} if another process holds the lock of one.
std::vector<Claim> claim(const Journal& journal, const std::vector<BerthSpec>& specs,
                         const LeaseOwner* owner = nullptr);

/// Parks the devices of all `claims` (netns pinned, device named, addressed, up), in the same order, several at once. A
/// berth that is parked already as its spec says is adopted, without any RTNL operation; one that differs, or is not
/// empty, is rebuilt. What joins another berth (BerthSpec::joins) is moved into that, which must be among `claims`,
/// after it has been set up; at release it goes home. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN. Throws Error{host} if a
/// device vanished or the kernel refuses; everything done to that device is undone, or it is quarantined with the
/// reason, and none is held.
std::vector<HeldBerth> park(const Journal& journal, std::vector<Claim> claims);
/// claim() and park() of one.
HeldBerth park(const Journal& journal, const BerthSpec& spec);

/// Brings the device into `netns`, which is a container's and stays it: named, addressed, up, leased to `owner` from
/// the first change on. Nobody in that netns is ever killed: release() and repair() take the device out of it, whoever
/// uses it, and bring it home. Throws as park(); Error{usage} if the container has an interface of that name.
HeldBerth place(const Journal& journal, Claim claim, const UniqueFd& netns, const LeaseOwner& owner);

/// Writes the owner of each berth into the journal, one for each. The berths have been proven empty by park(); what
/// another user may have kept open of an RDMA device is cut off here, of all at once. Throws Error{host}.
void lease(const Journal& journal, std::vector<HeldBerth>& berths, const std::vector<LeaseOwner>& owners);
/// One berth.
void lease(const Journal& journal, HeldBerth& berth, const LeaseOwner& owner);

/// Ends a lease: kills what is left in the netns (SIGKILL, then waits at most `patience_ms`), proves that no socket is
/// left, and makes the berth leasable again. A berth with sockets that do not go away is rebuilt in a new netns; one
/// that cannot be emptied is quarantined. With Park::never the device goes home instead. Returns what was done, as
/// Repair::action says it.
std::string release(const Journal& journal, HeldBerth berth, int patience_ms = 2000);
/// The same for many at once, which looks through /proc once for all of them. `empty_passes`: how often the caller has
/// just looked (read_processes_in_each()) and found nobody.
std::vector<std::string> release(const Journal& journal, std::vector<HeldBerth> berths, int patience_ms = 2000,
                                 int empty_passes = 0);

/// Brings the device home as it was found (macvlan: deletes it) and forgets it. Returns what was done, as
/// Repair::action says it. Throws Error{busy} if it is held, Error{usage} if it is not parked.
std::string unpark(const Journal& journal, const std::string& id);

/// What repair() did with one device.
struct Repair {
  std::string id;
  std::string
      action;  ///< "emptied", "rebuilt", "brought home", "forgotten…" (void traces, removed devices), "quarantined: …"
};
/// Finishes what crashed processes left: every record whose lock is free and whose phase is not `parked` (or all that
/// belong to `job`, if given) is brought back to parked or home; sockets of dead brokers are removed. Idempotent; two
/// at once do not disturb each other.
std::vector<Repair> repair(const Journal& journal, std::optional<std::uint32_t> job = std::nullopt);
/// The same for what belongs to one container.
std::vector<Repair> repair_container(const Journal& journal, const std::string& container);

}  // namespace berth
