#include "launcher/broker/berth_release.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "launcher/broker/berth_device.hpp"
#include "launcher/broker/device_moves.hpp"
#include "launcher/broker/irq_steering.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/polling.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

/// For sockets that are closed, but not freed yet; rebuilding the berth costs less than waiting longer.
constexpr std::chrono::milliseconds kSocketPatience{250};

/// Decides about one berth once the kills and waits are over. `clean`: it may be leased again as it is.
std::string settle_one(const Journal& journal, HeldBerth& berth, bool clean, const std::vector<int>& survivors) {
  LeaseRecord& record = berth.record;
  const BerthSpec spec = record.berth;
  restore_irqs(record);
  try {
    if (!survivors.empty()) {
      quarantine(journal, record,
                 {ErrorCode::host, fmt::format("cannot empty the berth of {}", spec.id),
                  fmt::format("process {} does not end", survivors.front())});
      return fmt::format("quarantined: {}", record.reason);
    }
    // What has the address of a device that was removed is not ours to park.
    if (spec.park == Park::never || record.foreign_netns || !spec.joins.empty() || !still_exists(record)) {
      std::string action = take_down(journal, record);
      forget(journal, spec);
      return action;
    }
    if (clean) {
      record.phase = Phase::parked;
      record.owner.reset();
      journal.write(record);
      return "emptied";
    }
    berth.netns = rebuild(journal, record, spec);
    return "rebuilt";
  } catch (const Error& error) {
    // A device that is home again with nothing left of its berth is free, even if it could not be parked anew.
    if (!journal.read(spec.id)) return "brought home";
    quarantine(journal, record, error);
    return fmt::format("quarantined: {}", record.reason);
  }
}

/// Whether the berth can stay as it is; one that cannot even be looked at cannot.
bool is_leasable(const HeldBerth& berth) {
  try {
    return !berth.record.foreign_netns && berth.record.berth.park != Park::never &&
           has_device(berth.record, berth.netns, false);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<unsigned> wait_for_no_sockets(const std::vector<const UniqueFd*>& netns) {
  std::vector<unsigned> counts(netns.size());
  poll_until(kSocketPatience, [&] {
    for (std::size_t i = 0; i < netns.size(); ++i) counts[i] = *netns[i] ? read_socket_count(*netns[i]) : 0;
    return std::all_of(counts.begin(), counts.end(), [](unsigned count) { return count == 0; });
  });
  return counts;
}

std::vector<std::string> settle(const Journal& journal, std::vector<HeldBerth>& berths, int patience_ms,
                                int empty_passes) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  std::vector<std::uint64_t> inodes;
  std::vector<const UniqueFd*> netns;
  const UniqueFd none;
  for (HeldBerth& berth : berths) {
    // What there is to empty: a berth in the host's network has no netns of its own, nor one in a container's.
    const UniqueFd& own = berth.record.foreign_netns ? none : berth.netns;
    inodes.push_back(own ? netns_inode(own) : 0);
    netns.push_back(&own);
    if (berth.record.phase == Phase::releasing) continue;
    berth.record.phase = Phase::releasing;
    journal.write(berth.record);
  }
  const auto survivors = kill_processes_in_each(inodes, deadline, empty_passes);
  const auto sockets = wait_for_no_sockets(netns);
  std::vector<std::string> actions(berths.size());
  const auto settle_slowly = [&](const std::vector<std::size_t>& slow) {
    std::vector<std::string> groups;
    for (const std::size_t i : slow) groups.push_back(netns_owner(berths[i].record.berth));
    run_in_parallel(groups, [&](std::size_t k) {
      actions[slow[k]] = settle_one(journal, berths[slow[k]], false, survivors[slow[k]]);
    });
  };
  // What joined a berth leaves it first: it can be parked again only with nothing but its own device in it.
  std::vector<std::size_t> joining;
  for (std::size_t i = 0; i < berths.size(); ++i)
    if (!berths[i].record.berth.joins.empty()) joining.push_back(i);
  settle_slowly(joining);
  std::vector<std::size_t> slow;
  for (std::size_t i = 0; i < berths.size(); ++i) {
    if (!berths[i].record.berth.joins.empty()) continue;
    const bool is_alone = bring_joined_home(journal, berths[i].record);
    if (is_alone && sockets[i] == 0 && is_leasable(berths[i]))
      actions[i] = settle_one(journal, berths[i], true, survivors[i]);
    else
      slow.push_back(i);
  }
  settle_slowly(slow);
  return actions;
}

}  // namespace berth
