#include "launcher/core/policy.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "launcher/core/error.hpp"

namespace berth {
namespace {

bool lists(const std::vector<std::string>& names, const std::string& name) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& entry) { return entry == "*" || entry == name; });
}

bool applies_to(const AllowRule& rule, const Caller& caller) {
  // An unknown name or account matches "*" only.
  const auto matches = [](const std::vector<std::string>& allowed, const std::string& name) {
    return allowed.empty() || (name.empty() ? lists(allowed, "*") : lists(allowed, name));
  };
  const bool group_matches = rule.groups.empty() || lists(rule.groups, "*") ||
                             std::any_of(caller.groups.begin(), caller.groups.end(),
                                         [&](const std::string& group) { return lists(rule.groups, group); });
  return matches(rule.users, caller.user) && group_matches && matches(rule.accounts, caller.account);
}

/// The grant of `pool` to `caller`; its `pool` is null if no rule gives one.
PoolGrant grant_of(const Policy& policy, const Caller& caller, const Pool& pool) {
  if (policy.allow.empty()) return {&pool, std::nullopt};
  for (const AllowRule& rule : policy.allow) {
    if (!applies_to(rule, caller)) continue;
    if (rule.pools.empty() || lists(rule.pools, pool.name)) return {&pool, rule.max_devices};
  }
  return {};
}

std::string describe(const Caller& caller) {
  std::string text = fmt::format("user '{}'", caller.user);
  if (!caller.groups.empty()) text += fmt::format(" (groups {})", fmt::join(caller.groups, ", "));
  if (!caller.account.empty()) text += fmt::format(", account '{}'", caller.account);
  return text;
}

}  // namespace

std::string_view to_string(PoolKind kind) {
  switch (kind) {
    case PoolKind::macvlan:
      return "macvlan";
    case PoolKind::sriov:
      return "sriov";
    case PoolKind::pf:
      return "pf";
    case PoolKind::host:
      return "host";
    case PoolKind::usnic:
      return "usnic";
  }
  return "macvlan";
}

std::string_view to_string(IrqSteering steering) { return steering == IrqSteering::near ? "near" : "off"; }

std::string_view to_string(Vnic vnic) { return vnic == Vnic::own ? "own" : "shared"; }

std::string_view to_string(RdmaMode mode) {
  switch (mode) {
    case RdmaMode::off:
      return "off";
    case RdmaMode::exclusive:
      return "exclusive";
    case RdmaMode::shared:
      return "shared";
  }
  return "off";
}

std::string_view to_string(Park park) {
  switch (park) {
    case Park::boot:
      return "boot";
    case Park::first_use:
      return "first-use";
    case Park::never:
      return "never";
  }
  return "first-use";
}

PoolGrant choose_pool(const Policy& policy, const Caller& caller, const Request& request) {
  if (policy.pools.empty()) {
    throw Error(ErrorCode::policy, "no pool to take a device from", fmt::format("{} has no [[pool]]", policy.source),
                "ask the administrator to add one, or run in the host's network with --rdma-net=host");
  }
  std::vector<std::string> granted;
  const Pool* named = nullptr;
  for (const Pool& pool : policy.pools) {
    const PoolGrant grant = grant_of(policy, caller, pool);
    if (grant.pool != nullptr && (request.pool.empty() || request.pool == pool.name)) return grant;
    if (grant.pool != nullptr) granted.push_back(pool.name);
    if (pool.name == request.pool) named = &pool;
  }

  std::string fix = granted.empty() ? std::string("ask the administrator to allow it")
                                    : fmt::format("use one of your pools: --rdma-pool={}", fmt::join(granted, "|"));
  if (!request.pool.empty() && named == nullptr) {
    // The names of pools that the user may not use stay the site's business.
    if (const auto nearest = nearest_word(request.pool, granted)) fix = fmt::format("did you mean '{}'?", *nearest);
    throw Error(ErrorCode::policy, fmt::format("no pool '{}'", request.pool),
                fmt::format("{} does not define it", policy.source), std::move(fix));
  }
  const std::string wanted = named == nullptr ? "any pool" : fmt::format("pool '{}'", named->name);
  throw Error(ErrorCode::policy, fmt::format("cannot use {}", wanted),
              fmt::format("no [[allow]] rule of {} gives {} to {}", policy.source, wanted, describe(caller)),
              std::move(fix));
}

bool is_below(std::string_view path, const std::vector<std::string>& directories) {
  return std::any_of(directories.begin(), directories.end(),
                     [&](const std::string& directory) { return is_within(path, directory); });
}

}  // namespace berth
