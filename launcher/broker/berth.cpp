#include "launcher/broker/berth.hpp"

#include <fmt/format.h>

#include <chrono>

#include "launcher/broker/berth_device.hpp"
#include "launcher/broker/berth_release.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

constexpr auto kDeadOwnerPatience = std::chrono::seconds(2);

Lock lock_or_throw(const Journal& journal, const std::string& id) {
  if (auto lock = journal.try_lock_device(id)) return std::move(*lock);
  const auto record = journal.read(id);
  throw Error(ErrorCode::busy, fmt::format("cannot use device {}", id),
              record && record->owner ? fmt::format("{} holds it", to_string(*record->owner))
                                      : "another process is changing it",
              "wait for it, or choose another device");
}

bool is_dead_lease(const LeaseRecord& record) {
  return record.phase == Phase::leased || record.phase == Phase::releasing;
}

/// The netns of a berth that can be leased as it is; nullopt if anything about it is not as `spec` says.
///
/// /proc is searched only if the last owner died. `parked` is written only after the berth was proven empty of
/// processes and sockets, and since then nobody held its lock; to enter it takes CAP_SYS_ADMIN over the initial user
/// namespace, which owns it. Sockets are counted in any case: that is cheap, and it catches an administrator's visit.
std::optional<UniqueFd> open_if_adoptable(const Journal& journal, const LeaseRecord& record, const BerthSpec& spec) {
  if (record.berth != spec || (record.phase != Phase::parked && !is_dead_lease(record))) return std::nullopt;
  auto netns = open_recorded_netns(journal, record);
  if (!netns) return std::nullopt;
  if (is_dead_lease(record) &&
      !kill_processes_in_each({record.netns_inode}, std::chrono::steady_clock::now() + kDeadOwnerPatience)
           .front()
           .empty())
    return std::nullopt;
  if (wait_for_no_sockets({&*netns}).front() != 0 || !has_device(spec, *netns, true)) return std::nullopt;
  return netns;
}

}  // namespace

HeldBerth park(const Journal& journal, const BerthSpec& spec) {
  HeldBerth berth{lock_or_throw(journal, spec.id), {}, {}};
  if (const auto found = journal.read(spec.id)) berth.record = *found;
  if (berth.record.phase == Phase::quarantined)
    throw Error(ErrorCode::host, fmt::format("cannot use device {}", spec.id),
                fmt::format("it is quarantined: {}", berth.record.reason),
                "remove the cause, then run as root: berth repair");
  auto netns = open_if_adoptable(journal, berth.record, spec);
  berth.netns = netns ? std::move(*netns) : rebuild(journal, berth.record, spec);
  if (berth.record.phase != Phase::parked) {
    berth.record.phase = Phase::parked;
    berth.record.owner.reset();
    journal.write(berth.record);
  }
  return berth;
}

void lease(const Journal& journal, HeldBerth& berth, const LeaseOwner& owner) {
  berth.record.phase = Phase::leased;
  berth.record.owner = owner;
  journal.write(berth.record);
}

std::string release(const Journal& journal, HeldBerth berth, int patience_ms) {
  std::vector<HeldBerth> one;
  one.push_back(std::move(berth));
  return settle(journal, one, patience_ms).front();
}

std::vector<std::string> release(const Journal& journal, std::vector<HeldBerth> berths, int patience_ms,
                                 int empty_passes) {
  return settle(journal, berths, patience_ms, empty_passes);
}

std::string unpark(const Journal& journal, const std::string& id) {
  const Lock lock = lock_or_throw(journal, id);
  auto record = journal.read(id);
  if (!record) {
    journal.remove(id);
    throw Error(ErrorCode::usage, fmt::format("no berth '{}'", id), "it is not parked", "see: berth leases");
  }
  try {
    std::string action = take_down(journal, *record);
    journal.remove(id);
    return action;
  } catch (const Error& error) {
    quarantine(journal, *record, error);
    throw;
  }
}

}  // namespace berth
