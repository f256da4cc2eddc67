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

/// A rank on another port while all other ranks stay, but for the one that it changes places with.
struct Alternative {
  std::size_t device = 0;                ///< the rank's, index into PlacementProblem::devices
  std::size_t instead_of = 0;            ///< that of its devices which it would not have then
  std::optional<std::size_t> swap_with;  ///< local rank that would get this rank's device; empty: the device is free
  std::string_view level;  ///< the most important level of the objective that would differ; empty: none, equally good
  double before = 0;       ///< its value now
  double after = 0;        ///< and then
};

/// For every rank, and each of its devices, the best alternative on each port that it does not use, in the order of the
/// ports' devices. A port with no
/// free device is reached by changing places with a rank on it. Nothing is ever better than a best placement; what is
/// equally good lost only because its device comes later.
std::vector<std::vector<Alternative>> find_alternatives(const PlacementProblem& problem, const Placement& placement);

/// {"LEVEL": VALUE} would lose their order: an array of {"level", "value"}.
nlohmann::json to_json_value(const std::vector<PlacementLevel>& objective);

/// {"order", "objective", "ranks"}; docs/json.md has the form. `devices` are the names of the problem's.
nlohmann::json make_explanation(const PlacementProblem& problem, const std::vector<std::string>& devices,
                                const Placement& placement);

/// "remote 0 -> 1", or "as good, but its device comes later".
std::string to_string(const Alternative& alternative);

}  // namespace berth
