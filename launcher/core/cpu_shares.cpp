#include "launcher/core/cpu_shares.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "launcher/core/locality.hpp"

namespace berth {
namespace {

constexpr std::size_t kNobody = static_cast<std::size_t>(-1);

using Indices = std::vector<std::size_t>;

/// What is handed out as a whole: a core's part of `cpus`, or a CPU that the topology does not know.
std::vector<CpuSet> core_units(const Topology& topology, const CpuSet& cpus) {
  std::vector<CpuSet> units;
  CpuSet rest = cpus;
  for (const CpuSet& core : topology.cores) {
    CpuSet part = core & rest;
    if (part.empty()) continue;
    rest -= part;
    units.push_back(std::move(part));
  }
  for (const unsigned cpu : rest.to_vector()) units.push_back(CpuSet::range(cpu, cpu));
  return units;
}

std::vector<CpuSet> thread_units(const std::vector<CpuSet>& cores) {
  std::vector<CpuSet> units;
  for (const CpuSet& core : cores) {
    for (const unsigned cpu : core.to_vector()) units.push_back(CpuSet::range(cpu, cpu));
  }
  return units;
}

/// Ranks that overlap directly or through others, each group ascending.
std::vector<Indices> overlapping_groups(const std::vector<CpuSet>& allowed) {
  std::vector<Indices> groups;
  std::vector<CpuSet> unions;
  for (std::size_t rank = 0; rank < allowed.size(); ++rank) {
    Indices merged{rank};
    CpuSet cpus = allowed[rank];
    for (std::size_t group = 0; group < groups.size();) {
      if (!unions[group].intersects(cpus)) {
        ++group;
        continue;
      }
      merged.insert(merged.end(), groups[group].begin(), groups[group].end());
      cpus |= unions[group];
      groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(group));
      unions.erase(unions.begin() + static_cast<std::ptrdiff_t>(group));
      group = 0;  // the larger union may now touch a group that was passed over
    }
    std::sort(merged.begin(), merged.end());
    groups.push_back(std::move(merged));
    unions.push_back(std::move(cpus));
  }
  return groups;
}

/// Cuts `units` into `parts` contiguous pieces whose sizes differ by at most one. Needs units.size() >= parts > 0.
std::vector<CpuSet> cut_evenly(const std::vector<CpuSet>& units, std::size_t parts) {
  std::vector<CpuSet> pieces(parts);
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t end = (part + 1) * units.size() / parts;
    for (std::size_t unit = part * units.size() / parts; unit < end; ++unit) pieces[part] |= units[unit];
  }
  return pieces;
}

/// Groups units by the NUMA domain that holds them; units of no single domain form a last group.
std::vector<std::vector<CpuSet>> units_by_domain(const Topology& topology, const std::vector<CpuSet>& units) {
  const std::vector<CpuSet> domains = numa_domains(topology);
  std::vector<std::vector<CpuSet>> grouped(domains.size() + 1);
  for (const CpuSet& unit : units) {
    const auto home =
        std::find_if(domains.begin(), domains.end(), [&](const CpuSet& domain) { return unit.is_subset_of(domain); });
    grouped[static_cast<std::size_t>(home - domains.begin())].push_back(unit);
  }
  std::erase_if(grouped, [](const auto& group) { return group.empty(); });
  return grouped;
}

/// Several whole domains for each of fewer ranks than there are domains.
std::vector<CpuSet> divide_domains(const std::vector<std::vector<CpuSet>>& domains, std::size_t ranks) {
  std::vector<CpuSet> whole;
  for (const auto& domain : domains) whole.push_back(cut_evenly(domain, 1).front());
  return cut_evenly(whole, ranks);
}

/// Minimises the sum of load² / cores.
Indices balance(const CpuPool& pool) {
  Indices load(pool.domains.size(), 0);
  for (std::size_t rank = 0; rank < pool.ranks.size(); ++rank) {
    std::size_t best = kNobody;
    for (std::size_t domain = 0; domain < load.size(); ++domain) {
      const std::size_t cores = pool.domains[domain].size();
      if (load[domain] == cores) continue;
      const bool is_better =
          best == kNobody || (2 * load[domain] + 1) * pool.domains[best].size() < (2 * load[best] + 1) * cores;
      if (is_better) best = domain;
    }
    ++load[best];  // exists: there are at least as many units as ranks
  }
  return load;
}

/// One step of Kuhn's matching: finds `rank` a unit, moving earlier ranks to other units where needed.
bool find_unit(std::size_t rank, const std::vector<CpuSet>& masks, const std::vector<CpuSet>& units, Indices& owner,
               std::vector<bool>& visited) {
  for (std::size_t unit = 0; unit < units.size(); ++unit) {
    if (visited[unit] || !units[unit].intersects(masks[rank])) continue;
    visited[unit] = true;
    if (owner[unit] == kNobody || find_unit(owner[unit], masks, units, owner, visited)) {
      owner[unit] = rank;
      return true;
    }
  }
  return false;
}

/// Divides units among ranks whose masks overlap but differ; nullopt if not every rank can have a unit of its own.
std::optional<std::vector<CpuSet>> divide_by_mask(const std::vector<CpuSet>& units, const std::vector<CpuSet>& masks) {
  Indices owner(units.size(), kNobody);
  Indices held(masks.size(), 1);
  for (std::size_t rank = 0; rank < masks.size(); ++rank) {
    std::vector<bool> visited(units.size(), false);
    if (!find_unit(rank, masks, units, owner, visited)) return std::nullopt;
  }
  for (std::size_t unit = 0; unit < units.size(); ++unit) {
    if (owner[unit] != kNobody) continue;
    const std::size_t neighbour = unit > 0 ? owner[unit - 1] : kNobody;
    std::size_t best = kNobody;
    for (std::size_t rank = 0; rank < masks.size(); ++rank) {
      if (!units[unit].intersects(masks[rank])) continue;
      if (best == kNobody || held[rank] < held[best] || (held[rank] == held[best] && rank == neighbour)) best = rank;
    }
    owner[unit] = best;  // exists: every unit is part of the union of the masks
    ++held[best];
  }
  std::vector<CpuSet> shares(masks.size());
  for (std::size_t unit = 0; unit < units.size(); ++unit) shares[owner[unit]] |= units[unit] & masks[owner[unit]];
  return shares;
}

bool all_equal(const std::vector<CpuSet>& masks) {
  return std::all_of(masks.begin(), masks.end(), [&](const CpuSet& mask) { return mask == masks.front(); });
}

/// What `ranks` ranks can be given one each of: cores, else threads; empty if there are too few.
std::vector<CpuSet> choose_units(const Topology& topology, const CpuSet& cpus, std::size_t ranks) {
  std::vector<CpuSet> units = core_units(topology, cpus);
  if (units.size() < ranks) units = thread_units(units);
  if (units.size() < ranks) units.clear();
  return units;
}

/// For ranks with overlapping masks that are no pool.
std::vector<CpuSet> divide(const Topology& topology, const std::vector<CpuSet>& masks) {
  CpuSet all;
  for (const CpuSet& mask : masks) all |= mask;
  const std::vector<CpuSet> cores = core_units(topology, all);
  if (all_equal(masks)) {
    const auto domains = units_by_domain(topology, cores);
    return masks.size() < domains.size() ? divide_domains(domains, masks.size()) : masks;
  }
  for (const std::vector<CpuSet>& units : {cores, thread_units(cores)}) {
    if (units.size() < masks.size()) continue;
    if (auto shares = divide_by_mask(units, masks)) return *std::move(shares);
  }
  return masks;
}

std::vector<CpuSet> masks_of(const Indices& ranks, const std::vector<CpuSet>& allowed) {
  std::vector<CpuSet> masks;
  for (const std::size_t rank : ranks) masks.push_back(allowed[rank]);
  return masks;
}

}  // namespace

std::vector<CpuPool> find_cpu_pools(const Topology& topology, const std::vector<CpuSet>& allowed) {
  std::vector<CpuPool> pools;
  for (const Indices& group : overlapping_groups(allowed)) {
    if (group.size() == 1 || !all_equal(masks_of(group, allowed))) continue;
    const std::vector<CpuSet> units = choose_units(topology, allowed[group.front()], group.size());
    auto domains = units_by_domain(topology, units);
    if (!units.empty() && group.size() >= domains.size()) pools.push_back({group, std::move(domains)});
  }
  return pools;
}

std::vector<CpuSet> choose_cpus(const Topology& topology, const std::vector<CpuSet>& allowed,
                                const std::vector<CpuPool>& pools, const std::vector<Indices>& loads) {
  std::vector<CpuSet> chosen = allowed;
  for (std::size_t number = 0; number < pools.size(); ++number) {
    std::size_t next = 0;
    for (std::size_t domain = 0; domain < pools[number].domains.size(); ++domain) {
      for (CpuSet& share : cut_evenly(pools[number].domains[domain], loads[number][domain]))
        chosen[pools[number].ranks[next++]] = std::move(share);
    }
  }
  for (const Indices& group : overlapping_groups(allowed)) {
    const bool is_pool = std::any_of(pools.begin(), pools.end(), [&](const CpuPool& p) { return p.ranks == group; });
    if (group.size() == 1 || is_pool) continue;
    const std::vector<CpuSet> shares = divide(topology, masks_of(group, allowed));
    for (std::size_t i = 0; i < group.size(); ++i) chosen[group[i]] = shares[i];
  }
  return chosen;
}

std::vector<CpuSet> choose_cpus(const Topology& topology, const std::vector<CpuSet>& allowed) {
  const std::vector<CpuPool> pools = find_cpu_pools(topology, allowed);
  std::vector<Indices> loads;
  for (const CpuPool& pool : pools) loads.push_back(balance(pool));
  return choose_cpus(topology, allowed, pools, loads);
}

}  // namespace berth
