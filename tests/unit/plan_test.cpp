#include "launcher/core/plan.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "launcher/core/error.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

void lease(PlanInput& input, const std::string& id, const std::string& holder) {
  input.inventory.held.push_back({id, true, true, holder, ""});
}

void lease_all_vfs(PlanInput& input, const std::string& holder) {
  for (const VirtualFunction& vf : input.inventory.virtual_functions) lease(input, to_string(vf.pci), holder);
}

Error refusal(const PlanInput& input) {
  try {
    make_plan(input);
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::internal, "nothing", "the plan was made"};
}

std::string reason_for(const NodePlan& plan, const std::string& id) {
  for (const Rejection& rejection : plan.rejected) {
    if (rejection.device_id == id) return rejection.reason;
  }
  return "taken";
}

std::vector<std::string> ids(const std::vector<Candidate>& candidates) {
  std::vector<std::string> all;
  for (const Candidate& candidate : candidates) all.push_back(candidate.berth.id);
  return all;
}

using Ids = std::vector<std::string>;

}  // namespace

TEST_CASE("macvlan candidates: names, indices and addresses by parent and number", "[plan]") {
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

TEST_CASE("A parent that vanished does not move the addresses of the others", "[plan]") {
  Pool pool = two_pools().pools[1];
  pool.parents = {"eth9", "eth3"};
  const auto candidates = make_candidates(pool, two_socket_node());
  CHECK(ids(candidates).front() == "eth3.mv0");
  CHECK(candidates.front().berth.index == 4);
  CHECK(to_string(candidates.front().berth.addresses.front()) == "10.78.0.13/16");
}

TEST_CASE("Whole NICs: each is one device, next to its own CPUs", "[plan]") {
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

TEST_CASE("Wildcards take the node's NICs, not what was made from them", "[plan]") {
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

TEST_CASE("Nodes with different numbers of NICs never arrive at one address", "[plan]") {
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

TEST_CASE("A macvlan parent that cannot carry the pool makes its devices unusable", "[plan]") {
  Pool pool = two_pools().pools[1];
  Inventory node = two_socket_node();
  pool.mtu = 9000;
  CHECK(make_candidates(pool, node).front().unusable == "the pool's MTU 9000 is larger than the MTU 1500 of eth0");
  node.net_devices[0].link = LinkState::down;
  CHECK(make_candidates(pool, node).front().unusable == "link of eth0 is down");
}

TEST_CASE("SR-IOV candidates: by name or PCI address of the PF, in VF order", "[plan]") {
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

TEST_CASE("What makes a VF unusable is said", "[plan]") {
  PlanInput input = two_socket_input(1);
  auto& vfs = input.inventory.virtual_functions;
  vfs[0].driver = "vfio-pci";
  vfs[1].driver = "";
  vfs[2].netdev = "";
  vfs[3].netdev = "";  // but parked by Berth
  input.inventory.held.push_back({"0000:3b:02.3", true, false, "", ""});
  lease(input, "0000:af:02.0", "job 4711.0 (alice)");
  input.inventory.held.push_back({"0000:af:02.1", true, false, "", "a socket would not go away"});
  const NodePlan plan = make_plan(input);
  CHECK(plan.berths[0].id == "0000:3b:02.3");
  CHECK_THAT(reason_for(plan, "0000:3b:02.0"), ContainsSubstring("bound to vfio-pci"));
  CHECK(reason_for(plan, "0000:3b:02.1") == "no driver bound");
  CHECK_THAT(reason_for(plan, "0000:3b:02.2"), ContainsSubstring("another network namespace"));
  CHECK(reason_for(plan, "0000:af:02.0") == "leased by job 4711.0 (alice)");
  CHECK(reason_for(plan, "0000:af:02.1") == "quarantined: a socket would not go away");
  CHECK(reason_for(plan, "0000:af:02.2") == "free, not needed");
  input.inventory.net_devices[2].link = LinkState::down;
  CHECK(reason_for(make_plan(input), "0000:af:02.2") == "link of its PF eth3 is down");
}

TEST_CASE("No device is given twice, and every berth belongs to a rank", "[plan]") {
  const NodePlan plan = make_plan(two_socket_input(8));
  CHECK(plan.berths.size() == 8);
  std::set<std::string> seen;
  for (const BerthSpec& berth : plan.berths) CHECK(seen.insert(berth.id).second);
  for (const RankPlan& rank : plan.ranks) CHECK(plan.berths[*rank.berth].numa_node == rank.numa_node);
  CHECK(plan.rejected.empty());
}

TEST_CASE("A full pool: who holds it, and what helps", "[plan]") {
  PlanInput input = two_socket_input(4);
  lease_all_vfs(input, "job 4711.0 (alice)");
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::busy);
  CHECK(error.what_text == "cannot give 4 ranks a device each from pool \"fast\"");
  CHECK(error.why == "8 devices, 8 leased: job 4711.0 (alice) holds 8");
  CHECK(error.fix == "wait for 4711.0 (--rdma-wait=SECONDS), or use --rdma-pool=slow");
}

TEST_CASE("A nearly full pool: every holder, every defect, and sharing", "[plan]") {
  PlanInput input = two_socket_input(4);
  for (unsigned i = 0; i < 3; ++i) lease(input, "0000:3b:02." + std::to_string(i), "job 1.0 (alice)");
  for (unsigned i = 0; i < 2; ++i) lease(input, "0000:af:02." + std::to_string(i), "job 2.0 (bob)");
  input.inventory.virtual_functions[7].driver = "";
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::busy);
  CHECK(error.why ==
        "8 devices, 5 leased: job 1.0 (alice) holds 3, job 2.0 (bob) holds 2; 1 unusable: no driver bound");
  CHECK_THAT(error.fix, ContainsSubstring("--rdma-share"));
  input.request.share = true;
  CHECK(make_plan(input).berths.size() == 2);
}

TEST_CASE("Waiting is no advice, and no reason to wait, where it cannot help", "[plan]") {
  PlanInput input = two_socket_input(9);
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::host);
  CHECK(error.why == "8 devices, 8 free");
  CHECK(error.fix == "let ranks share devices (--rdma-share)");
}

TEST_CASE("One rank is named by its number", "[plan]") {
  PlanInput input = two_socket_input(1);
  input.ranks[0].rank = 3;
  lease_all_vfs(input, "job 1.0 (bob)");
  CHECK(refusal(input).what_text == "cannot give rank 3 a device from pool \"fast\"");
}

TEST_CASE("A pool without any device says what was looked for and what there is", "[plan]") {
  PlanInput input = two_socket_input(1);
  input.policy.pools[0].parents = {"ib0", "ib1"};
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::host);
  CHECK(error.what_text == "no device of pool \"fast\" exists on n2");
  CHECK(error.why == "the policy wants SR-IOV VFs of ib0, ib1; the node has eth0, eth2, eth3");
}

TEST_CASE("max_devices limits devices, not ranks", "[plan]") {
  PlanInput input = two_socket_input(4);
  AllowRule rule;
  rule.max_devices = 2;
  input.policy.allow = {rule};
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::policy);
  CHECK_THAT(error.why, ContainsSubstring("at most 2 devices per node"));
  input.request.share = true;
  const NodePlan plan = make_plan(input);
  REQUIRE(plan.berths.size() == 2);
  CHECK(plan.berths[0].parent != plan.berths[1].parent);  // two ports, one next to each socket
  for (const RankPlan& rank : plan.ranks) CHECK(plan.berths[*rank.berth].numa_node == rank.numa_node);
}

TEST_CASE("max_devices counts what other steps of the same job hold", "[plan]") {
  PlanInput input = two_socket_input(1);
  AllowRule rule;
  rule.max_devices = 2;
  input.policy.allow = {rule};
  input.job = 7;
  const std::string first = make_plan(input).berths.front().id;
  const auto hold = [&](const std::string& id, std::uint32_t job) {
    input.inventory.held.push_back({id, true, true, "job", "", job});
  };
  hold(first, 7);
  const std::string second = make_plan(input).berths.front().id;
  CHECK(second != first);
  hold(second, 8);  // another job's
  const std::string third = make_plan(input).berths.front().id;
  hold(third, 7);
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::policy);
  CHECK_THAT(error.why, ContainsSubstring("other steps of this job hold 2"));
}

TEST_CASE("A network namespace per node: one device for all ranks, CPUs for each", "[plan]") {
  PlanInput input = two_socket_input(4);
  input.request.net = NetScope::node;
  const NodePlan plan = make_plan(input);
  CHECK(plan.berths.size() == 1);
  for (const RankPlan& rank : plan.ranks) CHECK(rank.berth == 0U);
  CHECK(to_string(plan.ranks[3].cpus) == "12-15,28-31");
}

TEST_CASE("Several devices per rank: of different cards, in the netns of the first", "[plan]") {
  PlanInput input = two_socket_input(4);
  input.request.devices = 2;
  input.policy.pools[0].gateways = {*parse_ip_prefix("10.77.255.254/32")};
  const NodePlan plan = make_plan(input);
  REQUIRE(plan.berths.size() == 8);
  CHECK(plan.rejected.empty());
  for (const RankPlan& rank : plan.ranks) {
    const auto berths = berths_of(plan, rank);
    REQUIRE(berths.size() == 2);
    const BerthSpec& first = plan.berths[berths[0]];
    const BerthSpec& second = plan.berths[berths[1]];
    CHECK(first.parent != second.parent);
    CHECK(first.interface == "rdma0");
    CHECK(first.joins.empty());
    CHECK(first.park == Park::first_use);
    CHECK(first.gateways.size() == 1);
    CHECK(second.interface == "rdma1");
    CHECK(second.joins == first.id);
    CHECK(second.park == Park::never);
    CHECK(second.gateways.empty());
  }
}

TEST_CASE("Further interfaces are numbered on from the pool's name for the first", "[plan]") {
  PlanInput input = two_socket_input(1);
  input.request.devices = 3;
  for (const auto& [name, expected] : std::map<std::string, std::vector<std::string>>{
           {"hsn7", {"hsn7", "hsn8", "hsn9"}},
           {"fabric", {"fabric", "fabric1", "fabric2"}},
           {"a-long-name-99", {"a-long-name-99", "a-long-name-100", "a-long-name-101"}},
           {"fifteen-letters", {"fifteen-letters", "fifteen-letter1", "fifteen-letter2"}}}) {
    input.policy.pools[0].interface = name;
    std::vector<std::string> names;
    for (const BerthSpec& berth : make_plan(input).berths) {
      names.push_back(berth.interface);
      CHECK(is_interface_name(berth.interface));
    }
    CHECK(names == expected);
  }
}

TEST_CASE("Too few devices for several per rank, and what cannot go together with them", "[plan]") {
  PlanInput input = two_socket_input(5);
  input.request.devices = 2;
  CHECK(refusal(input).what_text == "cannot give 5 ranks 2 devices each from pool \"fast\"");
  CHECK(refusal(input).why == "8 devices, 8 free");
  input.ranks.resize(4);
  CHECK(make_plan(input).berths.size() == 8);
  AllowRule rule;
  rule.max_devices = 7;
  input.policy.allow = {rule};
  CHECK(refusal(input).code == ErrorCode::policy);
  CHECK(refusal(input).what_text == "cannot give 4 ranks 2 devices each from pool \"fast\"");
  input.policy.allow.clear();
  input.request.share = true;
  CHECK(refusal(input).why == "only ranks with one device can share it");
  input.request.share = false;
  for (const NetScope net : {NetScope::node, NetScope::host}) {
    input.request.net = net;
    CHECK(refusal(input).code == ErrorCode::usage);
  }
}

TEST_CASE("The host's network needs no pool at all", "[plan]") {
  PlanInput input = two_socket_input(2);
  input.request.net = NetScope::host;
  input.policy.pools.clear();
  const NodePlan plan = make_plan(input);
  CHECK(plan.berths.empty());
  CHECK(plan.pool.empty());
  CHECK_FALSE(plan.ranks[1].berth);
  CHECK(to_string(plan.ranks[1].cpus) == "8-15,24-31");
}

TEST_CASE("Without pinning ranks keep what they were allowed", "[plan]") {
  PlanInput input = two_socket_input(2);
  input.request.pin = Pin::off;
  const NodePlan plan = make_plan(input);
  CHECK(plan.pin == Pin::off);
  CHECK(plan.ranks[0].cpus == CpuSet::range(0, 31));
  CHECK_FALSE(plan.ranks[0].numa_node);
}

TEST_CASE("CPUs that are offline are not planned with; none left is an error", "[plan]") {
  PlanInput input = two_socket_input(1);
  input.ranks[0].allowed_cpus = *parse_cpu_list("30-40");
  CHECK(to_string(make_plan(input).ranks[0].cpus) == "30-31");
  input.ranks[0].allowed_cpus = *parse_cpu_list("64");
  const Error error = refusal(input);
  CHECK(error.code == ErrorCode::host);
  CHECK_THAT(error.why, ContainsSubstring("CPUs \"64\"") && ContainsSubstring("CPUs \"0-31\""));
  input.ranks[0].allowed_cpus = {};
  CHECK(refusal(input).what_text == "cannot give rank 0 a CPU");
}

TEST_CASE("A plan does not depend on anything but its input", "[plan]") {
  CHECK(make_plan(two_socket_input(5)) == make_plan(two_socket_input(5)));
}

TEST_CASE("RDMA devices need the kernel's netns mode that the pool names", "[plan]") {
  PlanInput input = two_socket_input(1);
  Pool& fast = input.policy.pools[0];
  fast.rdma.mode = RdmaMode::exclusive;
  for (std::size_t i = 0; i < input.inventory.virtual_functions.size(); ++i)
    input.inventory.virtual_functions[i].rdma_devices = {"mlx5_" + std::to_string(i)};
  const auto refusal = [&] {
    try {
      make_plan(input);
    } catch (const Error& error) {
      CHECK(error.code == ErrorCode::host);
      return error.why + " | " + error.fix;
    }
    return std::string("planned");
  };
  CHECK_THAT(refusal(), ContainsSubstring("no RDMA: the kernel's modules are not loaded | load them"));
  input.inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  CHECK_THAT(refusal(), ContainsSubstring("is in shared mode | write \"options ib_core netns_mode=0\""));
  input.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  CHECK(refusal() == "planned");
  CHECK(make_plan(input).berths.at(0).rdma == fast.rdma);
  fast.rdma.mode = RdmaMode::shared;
  CHECK_THAT(refusal(), ContainsSubstring("is in exclusive mode | write \"options ib_core netns_mode=1\""));
}

TEST_CASE("A VF without an RDMA device, or with several, is left out", "[plan]") {
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

TEST_CASE("Shares of RDMA devices in the host's network", "[plan]") {
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

TEST_CASE("A macvlan shares the RDMA device of its parent", "[plan]") {
  PlanInput input = two_socket_input(1);
  Pool& slow = input.policy.pools[1];
  slow.rdma.mode = RdmaMode::shared;
  input.inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  CHECK_THAT(make_candidates(slow, input.inventory)[0].unusable, ContainsSubstring("eth0 has no RDMA device"));
  input.inventory.rdma_devices = {{"rxe0", {}, "eth0", LinkState::up, 0, {}, {}}};
  CHECK(make_candidates(slow, input.inventory)[0].unusable.empty());
}
