// Finishing what crashed processes left behind.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <utility>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/berth_device.hpp"
#include "launcher/broker/berth_release.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/broker/rank_cgroups.hpp"
#include "launcher/broker/step_socket.hpp"

namespace berth {

namespace {

constexpr int kPatienceMs = 2000;

/// Whether repair() has business with a device, seen without its lock: a healthy one must not be locked even for a
/// moment, or somebody who wants to lease it finds it busy.
bool needs_repair(const std::optional<LeaseRecord>& record) {
  return !record || record->phase != Phase::parked || !record->joined.empty() || !record->berth.joins.empty();
}

using Condition = std::function<bool(const std::optional<LeaseRecord>&)>;

/// A half-parked, half-unparked or quarantined device goes home.
std::string apply_homecoming(const Journal& journal, LeaseRecord& record) {
  try {
    std::string action = take_down(journal, record);
    forget(journal, record.berth);
    return action;
  } catch (const Error& error) {
    quarantine(journal, record, error);
    return "quarantined: " + record.reason;
  }
}

void bring_home_all(const Journal& journal, std::span<HeldBerth> berths, std::vector<Repair>& repairs) {
  std::vector<std::string> actions(berths.size());
  std::vector<std::string> groups;
  for (const HeldBerth& berth : berths) groups.push_back(netns_owner(berth.record.berth));
  run_in_parallel(groups, [&](std::size_t i) { actions[i] = apply_homecoming(journal, berths[i].record); });
  for (std::size_t i = 0; i < berths.size(); ++i) repairs.push_back({berths[i].record.berth.id, actions[i]});
}

/// Drops joined devices whose berths somebody else is changing: that one will bring them home.
std::vector<Lock> lock_joined_berths(const Journal& journal, const std::vector<HeldBerth>& others,
                                     std::vector<HeldBerth>& berths) {
  std::set<std::string> held;
  for (const auto* list : {&others, &std::as_const(berths)})
    for (const HeldBerth& berth : *list) held.insert(berth.record.berth.id);
  std::vector<Lock> locks;
  std::erase_if(berths, [&](const HeldBerth& berth) {
    if (berth.record.berth.joins.empty() || held.contains(berth.record.berth.joins)) return false;
    try {
      if (auto lock = lock_joined_berth(journal, berth.record)) {
        locks.push_back(std::move(*lock));
        held.insert(berth.record.berth.joins);
      }
      return false;
    } catch (const Error&) {
      return true;
    }
  });
  return locks;
}

/// Records are written under temporary names first; whoever is killed in between leaves one.
void remove_unfinished_records(const Journal& journal) {
  std::error_code error;
  const std::filesystem::path leases(journal.state_directory() + "/leases");
  for (std::filesystem::directory_iterator entry(leases, error), end; !error && entry != end; entry.increment(error)) {
    const std::filesystem::path path = entry->path();
    // "ID.PID.new"
    if (path.extension() != ".new") continue;
    const std::string id = path.stem().stem();
    if (const auto lock = journal.try_lock_device(id)) {
      std::filesystem::remove(path, error);
      if (!journal.read(id)) journal.remove(id);
    }
  }
}

std::vector<Repair> repair_where(const Journal& journal, const Condition& is_meant) {
  std::vector<Repair> repairs;
  std::vector<HeldBerth> to_empty;
  std::vector<HeldBerth> to_bring_home;
  for (const std::string& id : journal.traces()) {
    if (!is_meant(journal.read(id))) continue;
    auto lock = journal.try_lock_device(id);
    if (!lock) continue;
    auto record = journal.read(id);
    if (!is_meant(record)) continue;
    if (!record) {
      // Void: of another boot, or a pin or lock file whose record is gone.
      if (journal.remove(id)) repairs.push_back({id, "forgotten"});
      continue;
    }
    const bool was_leased = record->phase == Phase::leased || record->phase == Phase::releasing;
    if (was_leased && !record->foreign_netns && record->berth.joins.empty())
      if (auto netns = open_recorded_netns(journal, *record)) {
        to_empty.push_back({std::move(*lock), std::move(*record), std::move(*netns)});
        continue;
      }
    to_bring_home.push_back({std::move(*lock), std::move(*record), {}});
  }
  // What joined a berth leaves it first.
  const std::vector<Lock> joined_berths = lock_joined_berths(journal, to_empty, to_bring_home);
  const auto others = std::stable_partition(to_bring_home.begin(), to_bring_home.end(),
                                            [](const HeldBerth& berth) { return !berth.record.berth.joins.empty(); });
  bring_home_all(journal, {to_bring_home.begin(), others}, repairs);
  bring_home_all(journal, {others, to_bring_home.end()}, repairs);
  const std::vector<std::string> actions = settle(journal, to_empty, kPatienceMs);
  for (std::size_t i = 0; i < actions.size(); ++i) repairs.push_back({to_empty[i].record.berth.id, actions[i]});
  return repairs;
}

}  // namespace

std::vector<Repair> repair(const Journal& journal, std::optional<std::uint32_t> job) {
  const auto is_of_job = [&](const std::optional<LeaseRecord>& record) {
    return record && record->owner && record->owner->job == *job;
  };
  std::vector<Repair> repairs = repair_where(journal, job ? Condition(is_of_job) : Condition(needs_repair));
  if (!job) remove_unfinished_records(journal);
  remove_stale_cgroups();
  remove_stale_step_directories(journal.state_directory());
  return repairs;
}

std::vector<Repair> repair_container(const Journal& journal, const std::string& container) {
  return repair_where(journal, [&](const std::optional<LeaseRecord>& record) {
    return record && record->owner && record->owner->container == container;
  });
}

}  // namespace berth
