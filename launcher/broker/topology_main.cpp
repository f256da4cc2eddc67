// berth-topology: prints the topology of the node, or {"error": …}. A program of its own, because it is needed once per
// boot: the broker, which starts with each step, does not load hwloc and what that needs.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/core/error_json.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/system/topology.hpp"

namespace {

nlohmann::json answer() {
  try {
    return berth::to_json_value(berth::read_topology());
  } catch (const berth::Error& error) {
    return berth::to_json_value(error);
  }
}

}  // namespace

int main() {
  fmt::print("{}\n", answer().dump());
  return std::fflush(stdout) == 0 ? 0 : 1;
}
