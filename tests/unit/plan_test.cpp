#include "launcher/core/plan.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

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

std::string reason_for(const NodePlan& plan, const std::string& id) {
  for (const Rejection& rejection : plan.rejected) {
    if (rejection.device_id == id) return rejection.reason;
  }
  return "taken";
}

}  // namespace

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
