// Which devices a pool has on a node, and which of them cannot be used.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "launcher/core/plan.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::string> ids(const std::vector<Candidate>& candidates) {
  std::vector<std::string> all;
  for (const Candidate& candidate : candidates) all.push_back(candidate.berth.id);
  return all;
}

using Ids = std::vector<std::string>;

}  // namespace

TEST_CASE("macvlan candidates: names, indices and addresses by parent and number", "[candidates]") {
  Pool pool = two_pools().pools[1];
  pool.parents = {"eth0", "eth3"};
  pool.berths_per_parent = 2;
  const auto candidates = make_candidates(pool, two_socket_node());
  CHECK(ids(candidates) == Ids{"eth0.mv0", "eth0.mv1", "eth3.mv0", "eth3.mv1"});
  CHECK(candidates[3].berth.index == 3);
  CHECK(candidates[3].berth.numa_node == 1);
  CHECK(candidates[3].port == "eth3");
  // n2 is node number 1 and each node has four devices: its fourth one is address 4 + 3 + 1.
  CHECK(to_string(candidates[3].berth.addresses.front()) == "10.78.0.8/16");
}

TEST_CASE("A parent that vanished does not move the addresses of the others", "[candidates]") {
  Pool pool = two_pools().pools[1];
  pool.parents = {"eth9", "eth3"};
  const auto candidates = make_candidates(pool, two_socket_node());
  CHECK(ids(candidates).front() == "eth3.mv0");
  CHECK(candidates.front().berth.index == 4);
  CHECK(to_string(candidates.front().berth.addresses.front()) == "10.78.0.13/16");
}

TEST_CASE("Whole NICs: each is one device, next to its own CPUs", "[candidates]") {
  Pool pool = two_pools().pools[0];
  pool.kind = PoolKind::pf;
  pool.park = Park::never;
  pool.berths_per_parent = 1;
  pool.parents = {"0000:3b:00.0", "eth3", "eth9"};
  Inventory node = two_socket_node();
  for (PhysicalFunction& pf : node.physical_functions) pf.num_vfs = 0;
  auto candidates = make_candidates(pool, node);
  CHECK(ids(candidates) == Ids{"0000:3b:00.0", "eth3"});  // there is no eth9
  CHECK(candidates[0].berth.parent == "eth2");
  CHECK(candidates[1].berth.pci == parse_pci_address("0000:af:00.0"));
  CHECK(candidates[1].berth.numa_node == 1U);
  CHECK(candidates[1].local_cpus == node.topology.numa_nodes[1].cpus);
  // Three numbers for each node, n2 being the second: a NIC that is missing moves nobody's address.
  CHECK(to_string(candidates[1].berth.addresses.front()) == "10.77.0.5/16");
  CHECK(candidates[0].unusable.empty());

  // In a berth a NIC is not on the host, and still known to be leased.
  std::erase_if(node.net_devices, [](const NetDevice& device) { return device.name == "eth2"; });
  CHECK(ids(make_candidates(pool, node)) == Ids{"eth3"});
  node.held.push_back({"0000:3b:00.0", true, true, "job 7.0", ""});
  candidates = make_candidates(pool, node);
  CHECK(ids(candidates) == Ids{"0000:3b:00.0", "eth3"});
  CHECK(candidates[0].unusable == "leased by job 7.0");
  node.physical_functions[1].num_vfs = 2;
  CHECK_THAT(make_candidates(pool, node).at(1).unusable, ContainsSubstring("it has VFs"));
}

TEST_CASE("Wildcards take the node's NICs, not what was made from them", "[candidates]") {
  Inventory node = two_socket_node();
  NetDevice stacked;
  stacked.name = "eth0mac";
  stacked.kind = "macvlan";
  node.net_devices.push_back(stacked);
  NetDevice loopback;
  loopback.name = "lo";
  node.net_devices.push_back(loopback);
  Pool pool = two_pools().pools[1];
  pool.berths_per_parent = 1;
  pool.parents = {"*"};
  CHECK(ids(make_candidates(pool, node)) == Ids{"eth0.mv0", "eth2.mv0", "eth3.mv0"});
  pool.parents = {"eth[23]", "eth*"};
  CHECK(ids(make_candidates(pool, node)) == Ids{"eth2.mv0", "eth3.mv0", "eth0.mv0"});
}

TEST_CASE("Nodes with different numbers of NICs never arrive at one address", "[candidates]") {
  Pool pool = two_pools().pools[1];
  pool.parents = {"eth*"};
  std::set<std::string> addresses;
  std::size_t devices = 0;
  for (const std::string host : {"n1", "n2", "n3"}) {
    Inventory node = two_socket_node();
    node.host = host;
    if (host == "n2") node.net_devices.resize(1);
    for (const Candidate& candidate : make_candidates(pool, node)) {
      addresses.insert(to_string(candidate.berth.addresses.front()));
      ++devices;
    }
  }
  CHECK(devices == 12 + 4 + 12);
  CHECK(addresses.size() == devices);
  pool.addresses.ranges = {*parse_ip_prefix("10.1.0.0/22")};  // 1022 addresses for 100 nodes: 10 each
  CHECK_THROWS_AS(make_candidates(pool, two_socket_node()), Error);
}

TEST_CASE("A macvlan parent that cannot carry the pool makes its devices unusable", "[candidates]") {
  Pool pool = two_pools().pools[1];
  Inventory node = two_socket_node();
  pool.mtu = 9000;
  CHECK(make_candidates(pool, node).front().unusable == "the pool's MTU 9000 is larger than the MTU 1500 of eth0");
  node.net_devices[0].link = LinkState::down;
  CHECK(make_candidates(pool, node).front().unusable == "link of eth0 is down");
}

TEST_CASE("SR-IOV candidates: by name or PCI address of the PF, in VF order", "[candidates]") {
  Pool pool = two_pools().pools[0];
  const Inventory node = two_socket_node();
  CHECK(make_candidates(pool, node).size() == 8);
  pool.parents = {"0000:AF:00.0"};
  const auto candidates = make_candidates(pool, node);
  CHECK(ids(candidates) == Ids{"0000:af:02.0", "0000:af:02.1", "0000:af:02.2", "0000:af:02.3"});
  CHECK(candidates[2].berth.parent == "eth3");
  CHECK(candidates[2].berth.pci == parse_pci_address("0000:af:02.2"));
  CHECK(candidates[2].speed_mbps == 100000);
  pool.berths_per_parent = 3;
  CHECK(make_candidates(pool, node).size() == 3);
}

TEST_CASE("RDMA devices need the kernel's netns mode that the pool names", "[candidates]") {
  PlanInput input = two_socket_input(1);
  Pool& fast = input.policy.pools[0];
  fast.rdma.mode = RdmaMode::exclusive;
  for (std::size_t i = 0; i < input.inventory.virtual_functions.size(); ++i)
    input.inventory.virtual_functions[i].rdma_devices = {"mlx5_" + std::to_string(i)};
  const auto why = [&] {
    const Error error = refusal(input);
    CHECK(error.code == ErrorCode::host);
    return error.why + " | " + error.fix;
  };
  CHECK_THAT(why(), ContainsSubstring("no RDMA: the kernel's modules are not loaded | load them"));
  input.inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  CHECK_THAT(why(), ContainsSubstring("is in shared mode | write \"options ib_core netns_mode=0\""));
  input.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  CHECK(make_plan(input).berths.at(0).rdma == fast.rdma);
  fast.rdma.mode = RdmaMode::shared;
  CHECK_THAT(why(), ContainsSubstring("is in exclusive mode | write \"options ib_core netns_mode=1\""));
}

TEST_CASE("A VF without an RDMA device, or with several, is left out", "[candidates]") {
  PlanInput input = two_socket_input(1);
  Pool& fast = input.policy.pools[0];
  fast.rdma.mode = RdmaMode::exclusive;
  input.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  auto& vfs = input.inventory.virtual_functions;
  vfs[1].rdma_devices = {"mlx5_1", "mlx5_11"};
  vfs[2].rdma_devices = {"mlx5_2"};
  vfs[3].netdev.clear();
  input.inventory.held = {{to_string(vfs[3].pci), true, false, "", ""}};  // parked: both are in its berth
  const auto candidates = make_candidates(fast, input.inventory);
  CHECK_THAT(candidates[0].unusable, ContainsSubstring("no RDMA device"));
  CHECK_THAT(candidates[1].unusable, ContainsSubstring("2 RDMA devices"));
  CHECK(candidates[2].unusable.empty());
  CHECK(candidates[3].unusable.empty());
}

TEST_CASE("Shares of RDMA devices in the host's network", "[candidates]") {
  PlanInput input = two_socket_input(3);
  Pool pool;
  pool.name = "shares";
  pool.kind = PoolKind::host;
  pool.parents = {"mlx5_*"};
  pool.berths_per_parent = 2;
  pool.interface = "";
  pool.rdma.mode = RdmaMode::shared;
  input.policy.pools = {pool};
  CHECK_THROWS_AS(make_plan(input), Error);  // none there
  input.inventory.rdma_devices = {{"mlx5_0", {}, "eth2", LinkState::up, 100'000, 0U, CpuSet::range(0, 7)},
                                  {"mlx5_1", {}, "eth3", LinkState::down, 100'000, 1U, CpuSet::range(8, 15)}};
  CHECK_THROWS_AS(make_plan(input), Error);  // two shares for three ranks: the port of the other is down
  input.inventory.rdma_devices[1].link = LinkState::up;
  const NodePlan plan = make_plan(input);
  REQUIRE(plan.berths.size() == 3);
  for (const BerthSpec& berth : plan.berths) {
    CHECK(berth.id.starts_with(berth.parent + ".rdma"));
    CHECK(berth.interface.empty());
    CHECK(berth.addresses.empty());
  }
}

TEST_CASE("A macvlan shares the RDMA device of its parent", "[candidates]") {
  PlanInput input = two_socket_input(1);
  Pool& slow = input.policy.pools[1];
  slow.rdma.mode = RdmaMode::shared;
  input.inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  CHECK_THAT(make_candidates(slow, input.inventory)[0].unusable, ContainsSubstring("eth0 has no RDMA device"));
  input.inventory.rdma_devices = {{"rxe0", {}, "eth0", LinkState::up, 0, {}, {}}};
  CHECK(make_candidates(slow, input.inventory)[0].unusable.empty());
}
