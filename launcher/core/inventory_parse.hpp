// The inverse of to_json_value(Inventory).
#pragma once

#include "launcher/core/inventory.hpp"
#include "launcher/core/json_reader.hpp"

namespace berth {

/// Everything but the topology and the schema's version. An unknown key is an error: what a newer Berth saw on a node
/// might matter for the plan. So are two devices with one name or address, and a VF without its PF.
/// Throws Error{host} with the place.
Inventory parse_inventory(const JsonReader& node);

}  // namespace berth
