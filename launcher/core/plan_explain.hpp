// Why a placement is as it is: what every other choice for a rank would cost. Pure.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/placement.hpp"

namespace berth {

/// The best placement in which a rank is on another port, all ranks staying on their CPUs.
struct Alternative {
  /// Another rank that would have another device then.
  struct Move {
    std::size_t rank = 0;    ///< local
    std::size_t device = 0;  ///< index into PlacementProblem::devices
  };
  std::size_t device = 0;                ///< the rank's, index into PlacementProblem::devices
  std::size_t instead_of = 0;            ///< that of its devices which it would not have then
  std::optional<std::size_t> swap_with;  ///< local rank that would get this rank's device, all others staying
  std::vector<Move> moves;               ///< where it takes more than to move one rank or to swap two
  std::string_view level;  ///< the most important level of the objective that would differ; empty: none, equally good
  double before = 0;       ///< its value now
  double after = 0;        ///< and then
};

/// For every rank, and each of its devices, the best alternative on each port that it does not use, in the order of the
/// ports' devices: solved again for each, and told in the simplest way, as a move to a free device or a swap of two
/// ranks, where that is as good. Nothing is ever better than a best placement; what is equally good lost only because
/// its device comes later.
std::vector<std::vector<Alternative>> find_alternatives(const PlacementProblem& problem, const Placement& placement);

/// {"LEVEL": VALUE} would lose their order: an array of {"level", "value"}.
nlohmann::json to_json_value(const std::vector<PlacementLevel>& objective);

/// {"order", "objective", "ranks"}; docs/json.md has the form. `devices` are the names of the problem's.
nlohmann::json make_explanation(const PlacementProblem& problem, const std::vector<std::string>& devices,
                                const Placement& placement);

/// "remote 0 -> 1", or "as good, but its device comes later".
std::string to_string(const Alternative& alternative);

}  // namespace berth
