#include "launcher/core/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <map>

#include "launcher/core/cpu_shares.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/placement.hpp"
#include "launcher/core/plan_refusals.hpp"
#include "launcher/core/ports.hpp"
#include "launcher/core/rank_gpus.hpp"

namespace berth {
namespace {

std::vector<CpuSet> usable_cpus(const PlanInput& input) {
  std::vector<CpuSet> usable;
  for (const LocalRank& rank : input.ranks) {
    const CpuSet& online = input.inventory.topology.cpus;
    usable.push_back(online.empty() ? rank.allowed_cpus : rank.allowed_cpus & online);
    if (!usable.back().empty()) continue;
    throw Error(ErrorCode::host, fmt::format("cannot give rank {} a CPU", rank.rank),
                fmt::format("it may use CPUs \"{}\", and {} has CPUs \"{}\" online", to_string(rank.allowed_cpus),
                            input.inventory.host, to_string(online)),
                "check --cpu-bind and the cpuset of the job");
  }
  return usable;
}

std::optional<unsigned> numa_node_of(const Topology& topology, const CpuSet& cpus) {
  for (const NumaNode& node : topology.numa_nodes) {
    if (!node.cpus.empty() && cpus.is_subset_of(node.cpus)) return node.os_index;
  }
  return std::nullopt;
}

PlacementProblem make_problem(const Topology& topology, std::vector<CpuSet> allowed,
                              const std::vector<const Candidate*>& devices, Shortage shortage, PlacementOrder order,
                              std::size_t devices_per_rank = 1) {
  PlacementProblem problem{topology, {}, {}, shortage, order, devices_per_rank};
  for (CpuSet& cpus : allowed) problem.ranks.push_back({std::move(cpus), {}});
  for (const Candidate* device : devices) {
    problem.devices.push_back({device->port, device->card,
                               device_cpus(topology, device->berth.numa_node, device->local_cpus), device->speed_mbps,
                               1, device->location});
  }
  return problem;
}

/// The `limit` devices that `limit` ranks would get if they had all the CPUs: spread over ports and NUMA nodes.
std::vector<const Candidate*> choose_subset(const Topology& topology, const std::vector<CpuSet>& allowed,
                                            const std::vector<const Candidate*>& devices, std::size_t limit,
                                            PlacementOrder order) {
  CpuSet all;
  for (const CpuSet& cpus : allowed) all |= cpus;
  const auto placement =
      choose_placement(make_problem(topology, std::vector<CpuSet>(limit, all), devices, Shortage::fail, order));
  std::vector<std::size_t> chosen;
  for (const PlacementChoice& choice : placement.value_or(Placement{}).choices)
    chosen.push_back(choice.devices.front());
  std::sort(chosen.begin(), chosen.end());
  std::vector<const Candidate*> subset;
  for (const std::size_t device : chosen) subset.push_back(devices[device]);
  return subset;
}

/// How many of these devices other steps of the same job hold; outside of jobs, other runs of the same user.
std::size_t count_held(const PlanInput& input, const std::vector<Candidate>& candidates) {
  std::size_t count = 0;
  for (const HeldDevice& held : input.inventory.held)
    if (held.job == input.job && (held.job != 0 || held.uid == input.caller.uid) &&
        std::any_of(candidates.begin(), candidates.end(),
                    [&](const Candidate& candidate) { return candidate.berth.id == held.device_id; }))
      ++count;
  return count;
}

/// What happens with fewer devices than ranks: the user's word goes before the pool's.
Shortage choose_shortage(const PlanInput& input, const Pool& pool) {
  const bool shared = input.request.share || input.request.net == NetScope::node;
  return shared ? Shortage::share : pool.shortage;
}

/// Several devices are one rank's own, all in its netns.
void check_devices(const Request& request) {
  if (request.devices == 1) return;
  const std::string what = fmt::format("cannot give each rank {}", own_devices_text(request));
  if (request.share)
    throw Error(ErrorCode::usage, what, "only ranks with one device can share it", "leave out --rdma-share");
  if (request.net != NetScope::rank)
    throw Error(ErrorCode::usage, what,
                fmt::format("with --rdma-net={} ranks have no network namespace of their own", to_string(request.net)),
                "leave out --rdma-net");
}

/// How many devices the ranks need at least.
std::size_t needed_devices(const PlanInput& input, const Pool& pool) {
  return choose_shortage(input, pool) == Shortage::fail ? input.ranks.size() * input.request.devices : 1;
}

/// Those of `candidates` that Slurm gave the job, where Slurm counts the devices of the pool. A job that asked for none
/// is refused, because Slurm would give its devices to others.
std::vector<Candidate> choose_given(const PlanInput& input, const Pool& pool,
                                    const std::vector<Candidate>& candidates) {
  if (pool.gres.empty() || (!input.gres && input.job == 0)) return candidates;
  const std::vector<GresGrant> none;
  const std::vector<GresGrant>& grants = input.gres ? *input.gres : none;
  const auto grant = std::ranges::find(grants, pool.gres, &GresGrant::name);
  const std::string what = fmt::format("cannot give {} {} from pool \"{}\"", ranks_text(input.ranks.size()),
                                       own_devices_text(input.request), pool.name);
  if (grant == grants.end() || grant->count == 0) {
    throw Error(
        ErrorCode::usage, what,
        fmt::format("Slurm counts its devices as generic resource \"{}\", and the job asked for none of it on {}",
                    pool.gres, input.inventory.host),
        fmt::format("submit the job with --gres={}:N, N devices on each node", pool.gres));
  }
  if (!grant->indexes) {
    throw Error(ErrorCode::host, what,
                fmt::format("Slurm says that it gave the job {} of \"{}\", but not which", devices_text(grant->count),
                            pool.gres),
                "administrator: use the lines that `berth gres` prints in gres.conf; File= makes Slurm number devices");
  }
  std::vector<Candidate> given;
  for (const unsigned index : grant->indexes->to_vector()) {
    if (index >= candidates.size()) {
      throw Error(ErrorCode::host, what,
                  fmt::format("Slurm gave the job device {} of \"{}\", and {} has only {}", index, pool.gres,
                              input.inventory.host, devices_text(candidates.size())),
                  "administrator: compare gres.conf with what `berth gres` prints on the node");
    }
    given.push_back(candidates[index]);
  }
  if (given.size() < needed_devices(input, pool)) {
    throw Error(ErrorCode::usage, what,
                fmt::format("Slurm gave the job {} of \"{}\" on {}", devices_text(given.size()), pool.gres,
                            input.inventory.host),
                fmt::format("submit the job with --gres={}:{}{}", pool.gres, needed_devices(input, pool),
                            input.request.devices == 1 ? ", or let ranks share devices (--rdma-share)" : ""));
  }
  return given;
}

/// The one of them that was named, where one was.
std::vector<Candidate> choose_named(const PlanInput& input, const Pool& pool, std::vector<Candidate> candidates) {
  if (input.device.empty()) return candidates;
  std::vector<std::string> ids;
  for (const Candidate& candidate : candidates) ids.push_back(candidate.berth.id);
  std::erase_if(candidates, [&](const Candidate& candidate) { return !is_named(candidate, input.device); });
  if (candidates.empty())
    throw Error(ErrorCode::policy, fmt::format("no device '{}' in pool \"{}\"", input.device, pool.name),
                fmt::format("it has {} on {}", ids.empty() ? "none" : fmt::format("{}", fmt::join(ids, ", ")),
                            input.inventory.host),
                "`berth devices -v` lists the devices of all pools");
  return candidates;
}

/// The devices that the ranks are to be placed on, or an Error that says what stands in the way.
std::vector<const Candidate*> choose_devices(const PlanInput& input, const PoolGrant& grant,
                                             const std::vector<Candidate>& candidates,
                                             const std::vector<CpuSet>& allowed) {
  if (candidates.empty()) throw_no_device(*grant.pool, input.inventory);
  const bool one_for_all = input.request.net == NetScope::node;
  const std::size_t needed = needed_devices(input, *grant.pool);
  const std::size_t held = count_held(input, candidates);
  const std::size_t allowance =
      grant.max_devices ? *grant.max_devices - std::min<std::size_t>(held, *grant.max_devices) : candidates.size();
  if (grant.max_devices && allowance < needed) {
    throw Error(ErrorCode::policy,
                fmt::format("cannot give {} {} each from pool \"{}\"", ranks_text(needed == 1 ? 1 : input.ranks.size()),
                            own_devices_text(input.request), grant.pool->name),
                fmt::format("the rule that allows it to {} gives a job at most {} per node (max_devices){}",
                            input.caller.user, devices_text(*grant.max_devices),
                            held > 0 ? fmt::format(", and other steps of this job hold {}", held) : ""),
                *grant.max_devices == 0 ? "ask the administrator"
                                        : "use fewer ranks per node, let ranks share devices (--rdma-share), or one "
                                          "device for the node (--rdma-net=node)");
  }
  std::vector<const Candidate*> free;
  for (const Candidate& candidate : candidates) {
    if (candidate.unusable.empty()) free.push_back(&candidate);
  }
  if (free.size() < needed) throw_too_few(input, *grant.pool, candidates, needed);

  const std::size_t limit = one_for_all ? 1 : std::min(allowance, free.size());
  const std::size_t wanted = input.ranks.size() * input.request.devices;
  const bool limit_matters = limit < std::min(free.size(), wanted) || (one_for_all && free.size() > 1);
  return limit_matters ? choose_subset(input.inventory.topology, allowed, free, limit, grant.pool->order) : free;
}

/// The `number`-th further device of a rank: it has the name of the first with another number ("rdma1"), and leaves the
/// default routes to that. It does not stay parked, because what ranks of one device lease is parked alone.
BerthSpec make_joining(BerthSpec berth, const std::string& first, std::size_t number) {
  berth.joins = first;
  berth.park = Park::never;
  berth.gateways.clear();
  if (berth.interface.empty()) return berth;
  constexpr std::size_t kLongestName = 15;
  const std::size_t digits = berth.interface.find_last_not_of("0123456789") + 1;
  std::uint64_t first_number = 0;
  std::from_chars(berth.interface.data() + digits, berth.interface.data() + berth.interface.size(), first_number);
  const std::string suffix = fmt::format("{}", first_number + number);
  berth.interface = berth.interface.substr(0, std::min(digits, kLongestName - suffix.size())) + suffix;
  return berth;
}

RankPlan make_rank(const PlanInput& input, std::size_t local_rank, const CpuSet& cpus, const CpuSet& allowed, Pin pin) {
  RankPlan rank;
  rank.rank = input.ranks[local_rank].rank;
  rank.local_rank = static_cast<unsigned>(local_rank);
  rank.cpus = pin == Pin::off ? allowed : cpus;
  rank.numa_node = numa_node_of(input.inventory.topology, rank.cpus);
  return rank;
}

/// Ranks that share a device may be more than it can serve: then the last of them would fail somewhere in MPI_Init.
void check_most_ranks(const Pool& pool, const std::vector<const Candidate*>& devices, const Placement& placement) {
  std::vector<std::size_t> ranks(devices.size());
  for (const PlacementChoice& choice : placement.choices)
    for (const std::size_t device : choice.devices) ++ranks[device];
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const Candidate& device = *devices[i];
    if (ranks[i] <= device.most_ranks.value_or(ranks[i])) continue;
    throw Error(
        ErrorCode::host,
        fmt::format("cannot let {} share device {} of pool \"{}\"", ranks_text(ranks[i]), device.berth.id, pool.name),
        device.limit, "use fewer ranks on each node, or a pool with more devices");
  }
}

}  // namespace

SolvedPlan solve_plan(const PlanInput& input) {
  const Topology& topology = input.inventory.topology;
  SolvedPlan solved;
  NodePlan& plan = solved.plan;
  plan.host = input.inventory.host;
  plan.pin = input.request.pin.value_or(input.policy.pin);
  const std::vector<CpuSet> allowed = usable_cpus(input);
  check_devices(input.request);

  if (input.request.net == NetScope::host) {
    const std::vector<CpuSet> cpus = choose_cpus(topology, allowed);
    for (std::size_t i = 0; i < input.ranks.size(); ++i) {
      plan.ranks.push_back(make_rank(input, i, cpus[i], allowed[i], plan.pin));
      plan.ranks.back().reason = "the network of the host, as asked for";
    }
    return solved;
  }

  const PoolGrant grant = choose_pool(input.policy, input.caller, input.request);
  plan.pool = grant.pool->name;
  const std::vector<Candidate> candidates = make_candidates(*grant.pool, input.inventory);
  const std::vector<Candidate> given = choose_named(input, *grant.pool, choose_given(input, *grant.pool, candidates));
  const std::vector<const Candidate*> devices = choose_devices(input, grant, given, allowed);
  solved.problem = make_problem(topology, allowed, devices, choose_shortage(input, *grant.pool), grant.pool->order,
                                input.request.devices);
  for (const Candidate* device : devices) solved.devices.push_back(device->berth.id);
  const std::vector<const Gpu*> gpus = choose_rank_gpus(input.request, input.inventory, allowed);
  for (std::size_t i = 0; i < gpus.size(); ++i)
    solved.problem.ranks[i].gpu = make_pci_location(gpus[i]->pci_path, gpus[i]->local_cpus);
  auto placement = choose_placement(solved.problem);
  if (!placement) throw_too_few(input, *grant.pool, given, input.ranks.size());
  check_most_ranks(*grant.pool, devices, *placement);

  std::map<std::size_t, std::size_t> berth_of_device;
  for (std::size_t i = 0; i < input.ranks.size(); ++i) {
    const PlacementChoice& choice = placement->choices[i];
    plan.ranks.push_back(make_rank(input, i, choice.cpus, allowed[i], plan.pin));
    plan.ranks.back().reason = choice.reason;
    if (!gpus.empty()) plan.ranks.back().gpu = gpus[i]->pci;
    if (choice.devices.empty()) {
      plan.ranks.back().reason += ": the network of the host";
      continue;
    }
    const auto [position, is_new] = berth_of_device.emplace(choice.devices.front(), plan.berths.size());
    plan.ranks.back().berth = position->second;
    if (!is_new) continue;
    plan.berths.push_back(devices[choice.devices.front()]->berth);
    const std::string first = plan.berths.back().id;
    for (std::size_t number = 1; number < choice.devices.size(); ++number)
      plan.berths.push_back(make_joining(devices[choice.devices[number]]->berth, first, number));
  }
  for (const Candidate& candidate : candidates) {
    const bool taken = std::any_of(plan.berths.begin(), plan.berths.end(),
                                   [&](const BerthSpec& berth) { return berth.id == candidate.berth.id; });
    if (taken) continue;
    const bool is_given =
        std::ranges::any_of(given, [&](const Candidate& each) { return each.berth.id == candidate.berth.id; });
    plan.rejected.push_back({candidate.berth.id, !candidate.unusable.empty() ? candidate.unusable
                                                 : is_given                  ? "free, not needed"
                                                 : !input.device.empty()     ? "another was asked for"
                                                                             : "Slurm did not give it to this job"});
  }
  solved.placement = std::move(*placement);
  return solved;
}

bool is_named(const Candidate& candidate, std::string_view device) {
  const auto pci = parse_pci_address(device);
  return candidate.berth.id == device || (pci && candidate.berth.pci == pci);
}

const std::string& netns_owner(const BerthSpec& berth) { return berth.joins.empty() ? berth.id : berth.joins; }

std::vector<std::size_t> berths_of(const NodePlan& plan, const RankPlan& rank) {
  std::vector<std::size_t> berths;
  if (!rank.berth) return berths;
  berths.push_back(*rank.berth);
  for (std::size_t berth = 0; berth < plan.berths.size(); ++berth)
    if (plan.berths[berth].joins == plan.berths[*rank.berth].id) berths.push_back(berth);
  return berths;
}

NodePlan make_plan(const PlanInput& input) { return solve_plan(input).plan; }

}  // namespace berth
