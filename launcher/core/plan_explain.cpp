#include "launcher/core/plan_explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "launcher/core/placement_costs.hpp"

namespace berth {
namespace {

/// Values of levels are sums of fractions: what differs by less than this is rounding.
constexpr double kRounding = 1e-9;

class Explorer {
 public:
  Explorer(const PlacementProblem& problem, const Placement& placement)
      : problem_(problem),
        placement_(placement),
        costs_(problem),
        capacities_(choose_capacities(problem).value_or(std::vector<std::size_t>())),
        load_(problem.devices.size(), 0) {
    for (std::size_t rank = 0; rank < placement.choices.size(); ++rank)
      rows_.push_back(costs_.add_row(placement.choices[rank].cpus, problem.ranks[rank].gpu));
    for (const PlacementChoice& choice : placement.choices)
      for (const std::size_t device : choice.devices) ++load_[device];
    for (std::size_t device = 0; device < problem.devices.size(); ++device) {
      const auto [port, is_new] = port_numbers_.emplace(problem.devices[device].port, ports_.size());
      if (is_new) ports_.emplace_back();
      ports_[port->second].push_back(device);
    }
  }

  [[nodiscard]] std::vector<Alternative> explore(std::size_t rank) const {
    const std::vector<std::size_t>& own = placement_.choices[rank].devices;
    std::vector<Alternative> alternatives;
    for (const std::size_t device : own) {
      for (std::size_t port = 0; port < ports_.size(); ++port) {
        if (std::ranges::any_of(own, [&](std::size_t each) { return port_of(each) == port; })) continue;
        if (auto best = best_on(rank, device, port)) alternatives.push_back(std::move(*best));
      }
    }
    return alternatives;
  }

 private:
  [[nodiscard]] std::size_t port_of(std::size_t device) const {
    return port_numbers_.at(problem_.devices[device].port);
  }

  using Weighed = std::pair<Alternative, std::vector<double>>;  ///< and the values of all levels with it

  [[nodiscard]] std::optional<Alternative> best_on(std::size_t rank, std::size_t own, std::size_t port) const {
    auto simple = simplest_on(rank, own, port);
    auto solved = solve_on(rank, own, port);
    if (!simple || (solved && is_better(solved->second, simple->second))) simple = std::move(solved);
    if (!simple) return std::nullopt;
    return std::move(simple->first);
  }

  static bool is_better(const std::vector<double>& a, const std::vector<double>& b) {
    for (std::size_t level = 0; level < a.size(); ++level)
      if (std::abs(a[level] - b[level]) > kRounding * std::max(1.0, b[level])) return a[level] < b[level];
    return false;
  }

  /// A move to a free device, or the best swap with a rank on that port.
  [[nodiscard]] std::optional<Weighed> simplest_on(std::size_t rank, std::size_t own, std::size_t port) const {
    for (const std::size_t device : ports_[port])
      if (load_[device] < capacities_[device]) return weigh(rank, own, device, std::nullopt);
    std::optional<Weighed> best;
    for (std::size_t other = 0; other < placement_.choices.size(); ++other) {
      for (const std::size_t device : placement_.choices[other].devices) {
        if (port_of(device) != port) continue;
        auto weighed = weigh(rank, own, device, other);
        if (!best || weighed.second < best->second) best = std::move(weighed);
      }
    }
    return best;
  }

  /// The best of all placements in which the rank has a device of that port instead of `own`: the first level of the
  /// objective is that it has no other, but for those of its devices that stay.
  [[nodiscard]] std::optional<Weighed> solve_on(std::size_t rank, std::size_t own, std::size_t port) const {
    PlacementCosts costs = costs_;
    std::vector<std::vector<std::size_t>> rows_of;
    for (const std::size_t row : rows_) rows_of.push_back({row});
    const std::size_t row = costs.add_own_row(placement_.choices[rank].cpus, problem_.ranks[rank].gpu);
    rows_of[rank] = {row};
    AssignmentProblem assignment = costs.make_assignment(std::move(rows_of), capacities_);
    CostLevel elsewhere;
    elsewhere.values.assign(assignment.rows * assignment.columns, 0);
    std::fill_n(elsewhere.values.begin() + static_cast<std::ptrdiff_t>(row * assignment.columns), assignment.columns,
                1);
    const std::vector<std::size_t>& devices = placement_.choices[rank].devices;
    for (std::size_t device = 0; device < load_.size(); ++device) {
      const bool stays = device != own && std::ranges::count(devices, device) > 0;
      if (stays || port_of(device) == port)
        elsewhere.values[row * assignment.columns + assignment.column_of[device]] = 0;
    }
    assignment.levels.insert(assignment.levels.begin(), std::move(elsewhere));
    std::vector<PlacementChoice> choices = placement_.choices;
    const auto assigned = assign_devices(assignment);
    for (std::size_t other = 0; other < choices.size(); ++other) choices[other].devices = assigned[other];
    const auto taken = std::ranges::find_if(assigned[rank], [&](std::size_t each) { return port_of(each) == port; });
    if (taken == assigned[rank].end()) return std::nullopt;
    Weighed weighed = weigh(choices, {*taken, own, std::nullopt, {}, {}, 0, 0});
    for (std::size_t other = 0; other < choices.size(); ++other)
      for (const std::size_t device : assigned[other])
        if (other != rank && std::ranges::count(placement_.choices[other].devices, device) == 0)
          weighed.first.moves.push_back({other, device});
    return weighed;
  }

  [[nodiscard]] Weighed weigh(std::size_t rank, std::size_t own, std::size_t device,
                              std::optional<std::size_t> swap_with) const {
    std::vector<PlacementChoice> choices = placement_.choices;
    if (swap_with) std::ranges::replace(choices[*swap_with].devices, device, own);
    std::ranges::replace(choices[rank].devices, own, device);
    return weigh(choices, {device, own, swap_with, {}, {}, 0, 0});
  }

  [[nodiscard]] Weighed weigh(const std::vector<PlacementChoice>& choices, Alternative alternative) const {
    const std::vector<PlacementLevel> objective = costs_.measure(choices);
    std::vector<double> values;
    for (std::size_t level = 0; level < objective.size(); ++level) {
      const double before = placement_.objective[level].value;
      const double after = objective[level].value;
      values.push_back(after);
      if (!alternative.level.empty() || std::abs(after - before) <= kRounding * std::max(1.0, before)) continue;
      alternative.level = objective[level].name;
      alternative.before = before;
      alternative.after = after;
    }
    return {std::move(alternative), std::move(values)};
  }

  const PlacementProblem& problem_;
  const Placement& placement_;
  PlacementCosts costs_;
  std::vector<std::size_t> rows_;                    ///< of each rank
  std::vector<std::size_t> capacities_;              ///< of each device
  std::vector<std::size_t> load_;                    ///< ranks per device
  std::map<std::string, std::size_t> port_numbers_;  ///< in the order of their first device
  std::vector<std::vector<std::size_t>> ports_;      ///< devices of each
};

}  // namespace

std::vector<std::vector<Alternative>> find_alternatives(const PlacementProblem& problem, const Placement& placement) {
  const Explorer explorer(problem, placement);
  std::vector<std::vector<Alternative>> alternatives;
  for (std::size_t rank = 0; rank < placement.choices.size(); ++rank) alternatives.push_back(explorer.explore(rank));
  return alternatives;
}

nlohmann::json to_json_value(const std::vector<PlacementLevel>& objective) {
  nlohmann::json levels = nlohmann::json::array();
  for (const PlacementLevel& level : objective) levels.push_back({{"level", level.name}, {"value", level.value}});
  return levels;
}

nlohmann::json make_explanation(const PlacementProblem& problem, const std::vector<std::string>& devices,
                                const Placement& placement) {
  using nlohmann::json;
  json ranks = json::array();
  const auto alternatives = find_alternatives(problem, placement);
  for (std::size_t rank = 0; rank < alternatives.size(); ++rank) {
    json others = json::array();
    for (const Alternative& other : alternatives[rank]) {
      json moves = json::array();
      for (const auto& [mover, device] : other.moves)
        moves.push_back({{"local_rank", mover}, {"device", devices[device]}});
      others.push_back({{"device", devices[other.device]},
                        {"instead_of", devices[other.instead_of]},
                        {"port", problem.devices[other.device].port},
                        {"swap_with", other.swap_with ? json(*other.swap_with) : json(nullptr)},
                        {"moves", std::move(moves)},
                        {"level", other.level.empty() ? json(nullptr) : json(other.level)},
                        {"before", other.before},
                        {"after", other.after}});
    }
    ranks.push_back({{"local_rank", rank}, {"alternatives", std::move(others)}});
  }
  return {{"order", to_string(problem.order)},
          {"objective", to_json_value(placement.objective)},
          {"ranks", std::move(ranks)}};
}

std::string to_string(const Alternative& alternative) {
  if (alternative.level.empty()) return "as good, but its device comes later";
  return fmt::format("{} {:.6g} -> {:.6g}", alternative.level, alternative.before, alternative.after);
}

}  // namespace berth
