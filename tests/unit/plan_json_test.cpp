#include "launcher/core/plan_json.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

std::string refusal(const json& value) {
  const Error error = testing::error_of([&] { parse_topology(value); });
  CHECK(error.code == ErrorCode::host);
  return error.render();
}

}  // namespace

TEST_CASE("A topology survives JSON, memory-only nodes and all", "[plan_json]") {
  const Topology topology = two_sockets();
  CHECK(parse_topology(to_json_value(topology)) == topology);
  CHECK(parse_topology(json::parse(to_json_value(topology).dump())) == topology);
  CHECK(parse_topology(to_json_value(Topology{})) == Topology{});
}

TEST_CASE("A malformed topology is refused with the key", "[plan_json]") {
  const json good = to_json_value(two_sockets());
  CHECK_THAT(refusal(json::array()), ContainsSubstring("not an object"));
  for (const std::string key : {"cpus", "cores", "numa_nodes"}) {
    json bad = good;
    bad.erase(key);
    CHECK_THAT(refusal(bad), ContainsSubstring("'" + key + "' is not there"));
    bad[key] = 7;
    CHECK_THAT(refusal(bad), ContainsSubstring("'" + key + "' is not"));
  }
  json bad = good;
  bad["cores"][3] = "5-2";
  CHECK_THAT(refusal(bad), ContainsSubstring("'cores[3]' is not a CPU list"));
  bad = good;
  bad["numa_nodes"][1]["os_index"] = -1;
  CHECK_THAT(refusal(bad), ContainsSubstring("'numa_nodes[1].os_index' is not a number"));
  bad["numa_nodes"][1] = "node1";
  CHECK_THAT(refusal(bad), ContainsSubstring("'numa_nodes[1]' is not an object"));
  bad = good;
  bad["cpus"] = "0-99999999";
  CHECK_THAT(refusal(bad), ContainsSubstring("'cpus' is not a CPU list"));
}

TEST_CASE("An inventory names every device, and says null for what is unknown", "[plan_json]") {
  Inventory inventory = two_socket_node();
  inventory.held.push_back({"0000:3b:02.0", true, true, "job 4711.0 (alice)", ""});
  const json value = to_json_value(inventory);
  CHECK(value["version"] == kJsonVersion);
  CHECK(value["net_devices"].size() == 3);
  CHECK(value["net_devices"][0]["numa_node"].is_null());
  CHECK(value["net_devices"][0]["pci"].is_null());
  CHECK(value["net_devices"][1]["pci"] == "0000:3b:00.0");
  CHECK(value["virtual_functions"].size() == 8);
  CHECK(value["virtual_functions"][4]["pf"] == "0000:af:00.0");
  CHECK(value["held"][0]["holder"] == "job 4711.0 (alice)");
}

TEST_CASE("A plan in JSON refers to its berths by position", "[plan_json]") {
  const json value = to_json_value(make_plan(two_socket_input(2)));
  CHECK(value["version"] == kJsonVersion);
  CHECK(value["pool"] == "fast");
  for (const json& rank : value["ranks"]) {
    CHECK(value["berths"][rank["berth"].get<std::size_t>()]["kind"] == "sriov");
  }
}
