// Plans of the synthetic node, compared with tests/golden/*.json. With BERTH_UPDATE_GOLDEN set the files are rewritten:
// read the difference before you commit it.
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/core/plan_json.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

void check_golden(const std::string& name, const PlanInput& input) {
  const std::string path = std::string(BERTH_SOURCE_DIR) + "/tests/golden/" + name + ".json";
  const std::string text = to_json_value(make_plan(input)).dump(2) + "\n";
  if (std::getenv("BERTH_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream file(path);
  std::stringstream expected;
  expected << file.rdbuf();
  INFO(path);
  CHECK(text == expected.str());
}

}  // namespace

TEST_CASE("Golden: four unbound ranks on VFs", "[golden]") { check_golden("unbound-4", two_socket_input(4)); }

TEST_CASE("Golden: ranks that Slurm bound cyclically over sockets", "[golden]") {
  PlanInput input = two_socket_input(0);
  for (unsigned rank = 0; rank < 6; ++rank) {
    const unsigned core = rank / 2 + (rank % 2) * 8;
    input.ranks.push_back({rank, CpuSet::range(core, core) | CpuSet::range(core + 16, core + 16)});
  }
  check_golden("bound-cyclic-6", input);
}

TEST_CASE("Golden: all ranks packed on one socket, whose four VFs do not suffice", "[golden]") {
  PlanInput input = two_socket_input(0);
  for (unsigned rank = 0; rank < 6; ++rank) input.ranks.push_back({rank, CpuSet::range(rank, rank)});
  check_golden("packed-6", input);
}

TEST_CASE("Golden: eight ranks share four macvlan devices", "[golden]") {
  PlanInput input = two_socket_input(8);
  input.request.pool = "slow";
  input.request.share = true;
  check_golden("share-8-on-4", input);
}

TEST_CASE("Golden: one device for the node, memory bound as well", "[golden]") {
  PlanInput input = two_socket_input(2);
  input.request.net = NetScope::node;
  input.request.pin = Pin::cpus_and_memory;
  check_golden("node-scope-2", input);
}

TEST_CASE("Golden: two devices for each of three ranks", "[golden]") {
  PlanInput input = two_socket_input(3);
  input.request.devices = 2;
  check_golden("two-devices-3", input);
}

TEST_CASE("Golden: a busy node with a quarantined and a parked VF", "[golden]") {
  PlanInput input = two_socket_input(2);
  input.inventory.held = {{"0000:3b:02.0", true, true, "job 4711.0 (alice)", ""},
                          {"0000:3b:02.1", true, false, "", "a process would not die"},
                          {"0000:3b:02.2", true, false, "", ""}};
  input.inventory.virtual_functions[2].netdev = "";
  check_golden("busy-2", input);
}

TEST_CASE("Golden: packed ranks on a pool that counts balance first", "[golden]") {
  PlanInput input = two_socket_input(0);
  input.policy.pools[0].order = PlacementOrder::balance;
  for (unsigned rank = 0; rank < 6; ++rank) input.ranks.push_back({rank, CpuSet::range(rank, rank)});
  check_golden("packed-balance-6", input);
}

TEST_CASE("Golden: more ranks than devices, some of which stay in the network of the host", "[golden]") {
  PlanInput input = two_socket_input(10);
  input.policy.pools[0].shortage = Shortage::some;
  check_golden("some-10-on-8", input);
}

TEST_CASE("Golden: unbound ranks where only the second NUMA node has a NIC", "[golden]") {
  PlanInput input = two_socket_input(5);
  input.policy.pools[0].parents = {"eth3"};
  input.policy.pools[0].shortage = Shortage::share;
  check_golden("unbound-5-far", input);
}
