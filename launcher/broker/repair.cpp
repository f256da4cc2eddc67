// Finishing what crashed processes left behind.
#include <unistd.h>

#include <filesystem>
#include <functional>

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
bool needs_repair(const std::optional<LeaseRecord>& record) { return !record || record->phase != Phase::parked; }

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
    if (was_leased && !record->foreign_netns)
      if (auto netns = open_recorded_netns(journal, *record)) {
        to_empty.push_back({std::move(*lock), std::move(*record), std::move(*netns)});
        continue;
      }
    to_bring_home.push_back({std::move(*lock), std::move(*record), {}});
  }
  std::vector<std::string> homecomings(to_bring_home.size());
  run_in_parallel(to_bring_home.size(),
                  [&](std::size_t i) { homecomings[i] = apply_homecoming(journal, to_bring_home[i].record); });
  for (std::size_t i = 0; i < to_bring_home.size(); ++i)
    repairs.push_back({to_bring_home[i].record.berth.id, homecomings[i]});
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
