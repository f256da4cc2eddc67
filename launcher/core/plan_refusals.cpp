#include "launcher/core/plan_refusals.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "launcher/core/candidates.hpp"
#include "launcher/core/error.hpp"

namespace berth {
namespace {

/// The holders of leased devices, each with its number of devices, in order of their first device.
std::vector<std::pair<std::string, std::size_t>> count_holders(const Inventory& inventory,
                                                               const std::vector<Candidate>& candidates) {
  std::vector<std::pair<std::string, std::size_t>> holders;
  for (const Candidate& candidate : candidates) {
    for (const HeldDevice& held : inventory.held) {
      if (held.device_id != candidate.berth.id || !held.leased || !held.quarantined.empty()) continue;
      const std::string name = held.holder.empty() ? "somebody" : held.holder;
      const auto known = std::find_if(holders.begin(), holders.end(), [&](const auto& h) { return h.first == name; });
      if (known == holders.end()) {
        holders.emplace_back(name, 1);
      } else {
        ++known->second;
      }
    }
  }
  return holders;
}

/// Another pool that the caller may use and that has enough free devices, for the advice.
std::optional<std::string> other_pool(const PlanInput& input, const std::string& pool, std::size_t needed) {
  for (const Pool& other : input.policy.pools) {
    if (other.name == pool) continue;
    Request request = input.request;
    request.pool = other.name;
    try {
      choose_pool(input.policy, input.caller, request);
      const std::vector<Candidate> devices = make_candidates(other, input.inventory);
      const auto free = std::count_if(devices.begin(), devices.end(),
                                      [](const Candidate& device) { return device.unusable.empty(); });
      if (static_cast<std::size_t>(free) >= needed) return other.name;
    } catch (const Error&) {
      continue;  // not for this caller, or not for this node: the next one may be
    }
  }
  return std::nullopt;
}

}  // namespace

std::string ranks_text(std::size_t ranks) { return fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"); }

std::string own_devices_text(const Request& request) {
  return request.devices == 1 ? "a device" : fmt::format("{} devices", request.devices);
}

std::string devices_text(std::size_t devices) { return fmt::format("{} device{}", devices, devices == 1 ? "" : "s"); }

void throw_no_device(const Pool& pool, const Inventory& inventory) {
  std::vector<std::string> present;
  const auto names_of = [&present](const auto& devices) {
    for (const auto& device : devices) present.push_back(device.name);
  };
  std::string_view wanted = "network interfaces";
  std::string_view fix =
      "correct `parents` of the pool, or find out why the interface vanished; `berth devices` lists them";
  switch (pool.kind) {
    case PoolKind::macvlan:
    case PoolKind::pf:
      names_of(inventory.net_devices);
      break;
    case PoolKind::sriov:
      names_of(inventory.net_devices);
      wanted = "SR-IOV VFs of";
      fix = "enable VFs (sriov_numvfs), or correct `parents` of the pool; `berth devices` lists what there is";
      break;
    case PoolKind::host:
      names_of(inventory.rdma_devices);
      wanted = "RDMA devices";
      break;
    case PoolKind::usnic:
      names_of(inventory.usnic_devices);
      wanted = "usNIC devices of";
      fix = "load usnic_verbs, give the vNICs a usNIC policy with VFs, or correct `parents`; see `berth devices -v`";
      break;
  }
  throw Error(ErrorCode::host, fmt::format("no device of pool \"{}\" exists on {}", pool.name, inventory.host),
              fmt::format("the policy wants {} {}; the node has {}", wanted, fmt::join(pool.parents, ", "),
                          present.empty() ? "none" : fmt::format("{}", fmt::join(present, ", "))),
              std::string(fix));
}

void throw_too_few(const PlanInput& input, const Pool& pool, const std::vector<Candidate>& candidates,
                   std::size_t needed) {
  const auto holders = count_holders(input.inventory, candidates);
  std::size_t leased = 0;
  std::vector<std::string> held;
  for (const auto& [holder, count] : holders) {
    leased += count;
    held.push_back(fmt::format("{} holds {}", holder, count));
  }
  std::map<std::string, std::size_t> defects;
  std::size_t free = 0;
  for (const Candidate& candidate : candidates) {
    if (candidate.unusable.empty()) {
      ++free;
    } else if (!candidate.unusable.starts_with("leased by ")) {
      ++defects[candidate.unusable];
    }
  }
  std::string why = devices_text(candidates.size());
  why +=
      holders.empty() ? fmt::format(", {} free", free) : fmt::format(", {} leased: {}", leased, fmt::join(held, ", "));
  if (pool.kind == PoolKind::usnic) why += describe_usnic(pool, input.inventory);
  for (const auto& [reason, count] : defects) why += fmt::format("; {} unusable: {}", count, reason);

  std::vector<std::string> fixes;
  const bool waiting_helps = free + leased >= needed;
  if (waiting_helps) {
    std::string job = holders.front().first.substr(0, holders.front().first.find(" ("));
    if (job.starts_with("job ")) job.erase(0, 4);
    fixes.push_back(fmt::format("wait for {} (--rdma-wait=SECONDS)", job));
  }
  if (const auto other = other_pool(input, pool.name, needed)) fixes.push_back("use --rdma-pool=" + *other);
  if (!input.request.share && input.request.devices == 1 && free > 0 &&
      (pool.kind != PoolKind::usnic || pool.usnic.vnic == Vnic::own))
    fixes.emplace_back("let ranks share devices (--rdma-share)");
  if (fixes.empty()) fixes.emplace_back("see `berth devices -v` for the reasons");

  const std::size_t ranks = input.ranks.size();
  const std::string devices = own_devices_text(input.request);
  const std::string what = ranks == 1    ? fmt::format("rank {} {}", input.ranks.front().rank, devices)
                           : needed == 1 ? fmt::format("{} {}", ranks_text(ranks), devices)
                                         : fmt::format("{} {} each", ranks_text(ranks), devices);
  throw Error(waiting_helps ? ErrorCode::busy : ErrorCode::host,
              fmt::format("cannot give {} from pool \"{}\"", what, pool.name), why,
              fmt::format("{}", fmt::join(fixes, ", or ")));
}

}  // namespace berth
