// JSON forms of the plain records, for `--json`, for the broker's protocol and for captured nodes.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"

namespace berth {

/// Schema of everything below; docs/json.md describes it. Raised when a reader of the old form would be misled.
constexpr int kJsonVersion = 1;

nlohmann::json to_json_value(const NodePlan& plan);
nlohmann::json to_json_value(const Inventory& inventory);
nlohmann::json to_json_value(const Topology& topology);
/// Throws Error{host} naming the missing or mistyped key.
Topology parse_topology(const nlohmann::json& json);

}  // namespace berth
