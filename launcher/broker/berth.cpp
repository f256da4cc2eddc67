#include "launcher/broker/berth.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "launcher/broker/berth_device.hpp"
#include "launcher/broker/berth_release.hpp"
#include "launcher/broker/device_moves.hpp"
#include "launcher/broker/irq_steering.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/broker/rdma_moves.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

constexpr auto kDeadOwnerPatience = std::chrono::seconds(2);

Lock lock_or_throw(const Journal& journal, const std::string& id, const LeaseOwner* owner = nullptr) {
  if (auto lock = journal.try_lock_device(id, owner)) return std::move(*lock);
  auto holder = journal.read_holder(id);
  if (const auto record = journal.read(id); !holder && record) holder = record->owner;
  throw Error(ErrorCode::busy, fmt::format("cannot use device {}", id),
              holder ? fmt::format("{} holds it", to_string(*holder)) : "another process is changing it",
              "wait for it, or choose another device");
}

bool is_dead_lease(const LeaseRecord& record) {
  return record.phase == Phase::leased || record.phase == Phase::releasing;
}

/// The netns of a berth that may be leasable as it is; nullopt if its record says otherwise.
std::optional<UniqueFd> open_if_as_wanted(const Journal& journal, const LeaseRecord& record, const BerthSpec& spec) {
  if (record.foreign_netns || !spec.joins.empty() || record.berth != spec) return std::nullopt;
  if (record.phase != Phase::parked && !is_dead_lease(record)) return std::nullopt;
  return open_recorded_netns(journal, record);
}

/// A locked device with its record, if it has one.
HeldBerth take_over(const Journal& journal, Lock lock, const std::string& id) {
  HeldBerth berth{std::move(lock), {}, {}};
  if (auto found = journal.read(id)) berth.record = *std::move(found);
  // Of a device that was removed nothing is left to mend; its successor starts afresh.
  if (berth.record.phase == Phase::quarantined && still_exists(berth.record))
    throw Error(ErrorCode::host, fmt::format("cannot use device {}", id),
                fmt::format("it is quarantined: {}", berth.record.reason),
                "remove the cause, then run as root: berth repair");
  return berth;
}

/// Closes the netns of each berth that cannot be leased as it is.
///
/// /proc is searched only for those whose last owner died. `parked` is written only after the berth was proven empty of
/// processes and sockets, and since then nobody held its lock; to enter it takes CAP_SYS_ADMIN over the initial user
/// namespace, which owns it. Sockets are counted in any case: that is cheap, and it catches an administrator's visit.
void check_empty(std::vector<HeldBerth>& berths) {
  std::vector<HeldBerth*> dead;
  std::vector<std::uint64_t> inodes;
  for (HeldBerth& berth : berths)
    if (berth.netns && is_dead_lease(berth.record)) {
      dead.push_back(&berth);
      inodes.push_back(berth.record.netns_inode);
    }
  if (!dead.empty()) {
    const auto left = kill_processes_in_each(inodes, std::chrono::steady_clock::now() + kDeadOwnerPatience);
    for (std::size_t i = 0; i < dead.size(); ++i)
      if (!left[i].empty()) dead[i]->netns.reset();
  }
  std::vector<HeldBerth*> open;
  std::vector<const UniqueFd*> netns;
  for (HeldBerth& berth : berths)
    if (berth.netns) {
      open.push_back(&berth);
      netns.push_back(&berth.netns);
    }
  const auto sockets = wait_for_no_sockets(netns);
  for (std::size_t i = 0; i < open.size(); ++i)
    if (sockets[i] != 0 || !has_device(open[i]->record, open[i]->netns, true)) open[i]->netns.reset();
}

/// What crashed steps left in berths that are to be leased as they are, and devices that are to be used that they left
/// in other berths.
void part_joined(const Journal& journal, std::vector<HeldBerth>& berths) {
  for (HeldBerth& berth : berths) {
    LeaseRecord& record = berth.record;
    if (record.berth.joins.empty()) continue;
    const bool is_held = std::ranges::any_of(
        berths, [&](const HeldBerth& other) { return other.record.berth.id == record.berth.joins; });
    const auto joined_berth = is_held ? std::nullopt : lock_joined_berth(journal, record);
    try {
      take_down(journal, record);
    } catch (const Error& error) {
      quarantine(journal, record, error);
      throw;
    }
    journal.remove_record(record.berth.id);
    record = {};
  }
  for (HeldBerth& berth : berths)
    if (berth.netns && !bring_joined_home(journal, berth.record)) berth.netns.reset();
}

/// Writes down who is about to join each berth.
void record_joining(const Journal& journal, std::vector<HeldBerth>& berths, const std::vector<BerthSpec>& specs) {
  for (HeldBerth& berth : berths) {
    for (const BerthSpec& spec : specs)
      if (!spec.joins.empty() && spec.joins == berth.record.berth.id) berth.record.joined.push_back(spec.id);
    if (!berth.record.joined.empty()) journal.write(berth.record);
  }
}

/// Builds those that check_empty() left without a netns: all that join others, or all that do not. The first error, if
/// any.
std::optional<Error> rebuild_others(const Journal& journal, std::vector<HeldBerth>& berths,
                                    const std::vector<BerthSpec>& specs, bool joining) {
  std::vector<std::size_t> missing;
  std::vector<std::string> groups;
  for (std::size_t i = 0; i < berths.size(); ++i) {
    if (berths[i].netns || specs[i].joins.empty() == joining) continue;
    missing.push_back(i);
    groups.push_back(netns_owner(specs[i]));
  }
  try {
    run_in_parallel(groups, [&](std::size_t k) {
      HeldBerth& berth = berths[missing[k]];
      berth.netns = rebuild(journal, berth.record, specs[missing[k]]);
    });
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(ErrorCode::internal, "cannot park devices", error.what());
  }
  return std::nullopt;
}

bool has_other_user(const HeldBerth& berth, const LeaseOwner& owner) {
  return berth.record.last_uid.value_or(owner.uid) != owner.uid;
}

void write_owner(const Journal& journal, HeldBerth& berth, const LeaseOwner& owner) {
  berth.record.phase = Phase::leased;
  berth.record.owner = owner;
  berth.record.last_uid = owner.uid;
  journal.write(berth.record);
}

}  // namespace

std::vector<Claim> claim(const Journal& journal, const std::vector<BerthSpec>& specs, const LeaseOwner* owner) {
  std::vector<Claim> claims;
  for (const BerthSpec& spec : specs) claims.push_back({spec, lock_or_throw(journal, spec.id, owner)});
  return claims;
}

std::vector<HeldBerth> park(const Journal& journal, std::vector<Claim> claims) {
  std::vector<HeldBerth> berths;
  std::vector<BerthSpec> specs;
  for (Claim& claim : claims) {
    HeldBerth& berth = berths.emplace_back(take_over(journal, std::move(claim.lock), claim.spec.id));
    if (auto netns = open_if_as_wanted(journal, berth.record, claim.spec)) berth.netns = std::move(*netns);
    restore_irqs(berth.record);  // of a dead lease
    specs.push_back(std::move(claim.spec));
  }
  part_joined(journal, berths);
  check_empty(berths);
  auto error = rebuild_others(journal, berths, specs, false);
  if (!error) {
    record_joining(journal, berths, specs);
    error = rebuild_others(journal, berths, specs, true);
  }
  if (error) {
    std::erase_if(berths,
                  [](const HeldBerth& berth) { return !berth.netns && berth.record.berth.kind != PoolKind::host; });
    settle(journal, berths, 0);
    throw *error;
  }
  for (HeldBerth& berth : berths) {
    if (berth.record.phase == Phase::parked) continue;
    berth.record.phase = Phase::parked;
    berth.record.owner.reset();
    journal.write(berth.record);
  }
  return berths;
}

HeldBerth park(const Journal& journal, const BerthSpec& spec) {
  return std::move(park(journal, claim(journal, {spec})).front());
}

HeldBerth place(const Journal& journal, Claim claim, const UniqueFd& netns, const LeaseOwner& owner) {
  HeldBerth berth = take_over(journal, std::move(claim.lock), claim.spec.id);
  const ForeignNetns container{netns, owner};
  berth.netns = rebuild(journal, berth.record, claim.spec, &container);
  return berth;
}

void lease(const Journal& journal, std::vector<HeldBerth>& berths, const std::vector<LeaseOwner>& owners) {
  std::vector<std::size_t> strange;  // whose last user was another
  for (std::size_t i = 0; i < berths.size(); ++i)
    if (has_other_user(berths[i], owners[i])) strange.push_back(i);
  run_in_parallel(strange.size(), [&](std::size_t k) {
    const HeldBerth& berth = berths[strange[k]];
    cut_off_rdma_users(berth.record, berth.netns);
  });
  for (std::size_t i = 0; i < berths.size(); ++i) write_owner(journal, berths[i], owners[i]);
}

void lease(const Journal& journal, HeldBerth& berth, const LeaseOwner& owner) {
  if (has_other_user(berth, owner)) cut_off_rdma_users(berth.record, berth.netns);
  write_owner(journal, berth, owner);
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
  const auto joined_berth = lock_joined_berth(journal, *record);
  try {
    std::string action = take_down(journal, *record);
    forget(journal, record->berth);
    return action;
  } catch (const Error& error) {
    quarantine(journal, *record, error);
    throw;
  }
}

}  // namespace berth
