#include "launcher/core/plan_explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace berth {
namespace {

/// Values of levels are sums of fractions: what differs by less than this is rounding.
constexpr double kRounding = 1e-9;

class Explorer {
 public:
  Explorer(const PlacementProblem& problem, const Placement& placement)
      : problem_(problem), placement_(placement), load_(problem.devices.size(), 0) {
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
        if (auto best = best_on(rank, device, port)) alternatives.push_back(*best);
      }
    }
    return alternatives;
  }

 private:
  [[nodiscard]] std::size_t port_of(std::size_t device) const {
    return port_numbers_.at(problem_.devices[device].port);
  }

  [[nodiscard]] std::optional<Alternative> best_on(std::size_t rank, std::size_t own, std::size_t port) const {
    for (const std::size_t device : ports_[port])
      if (load_[device] < problem_.devices[device].capacity) return weigh(rank, own, device, std::nullopt).first;
    std::optional<std::pair<Alternative, std::vector<double>>> best;
    for (std::size_t other = 0; other < placement_.choices.size(); ++other) {
      for (const std::size_t device : placement_.choices[other].devices) {
        if (port_of(device) != port) continue;
        auto weighed = weigh(rank, own, device, other);
        if (!best || weighed.second < best->second) best = std::move(weighed);
      }
    }
    if (!best) return std::nullopt;
    return best->first;
  }

  /// The alternative, and the values of all levels with it.
  [[nodiscard]] std::pair<Alternative, std::vector<double>> weigh(std::size_t rank, std::size_t own, std::size_t device,
                                                                  std::optional<std::size_t> swap_with) const {
    std::vector<PlacementChoice> choices = placement_.choices;
    if (swap_with) std::ranges::replace(choices[*swap_with].devices, device, own);
    std::ranges::replace(choices[rank].devices, own, device);
    const std::vector<PlacementLevel> objective = measure_placement(problem_, choices);
    Alternative alternative{device, own, swap_with, {}, 0, 0};
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
    return {alternative, values};
  }

  const PlacementProblem& problem_;
  const Placement& placement_;
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
      others.push_back({{"device", devices[other.device]},
                        {"instead_of", devices[other.instead_of]},
                        {"port", problem.devices[other.device].port},
                        {"swap_with", other.swap_with ? json(*other.swap_with) : json(nullptr)},
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
