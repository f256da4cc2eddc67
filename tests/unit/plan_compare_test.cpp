#include "launcher/core/plan_compare.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "launcher/core/plan_explain.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

/// Two ports with `per_port` devices each, on the two NUMA nodes of two_sockets(); each rank has a core of its own.
PlacementProblem two_ports(std::size_t per_port, const std::vector<unsigned>& cores) {
  PlacementProblem problem;
  problem.topology = two_sockets();
  for (std::size_t device = 0; device < 2 * per_port; ++device) {
    PlacementDevice one;
    one.port = device < per_port ? "left" : "right";
    one.local_cpus = problem.topology.numa_nodes[device < per_port ? 0 : 1].cpus;
    one.speed = 100;
    problem.devices.push_back(one);
  }
  for (const unsigned core : cores) problem.ranks.push_back({CpuSet::range(core, core), {}});
  return problem;
}

std::vector<std::size_t> devices_of(const ComparedPlacement& compared) {
  std::vector<std::size_t> devices;
  for (const PlacementChoice& choice : compared.choices) devices.push_back(choice.devices.at(0));
  return devices;
}

}  // namespace

TEST_CASE("Policies of others choose as they are known to", "[plan_compare]") {
  // Ranks alternate between the sockets: 0 and 8 are on NUMA node 0 and 1.
  const PlacementProblem problem = two_ports(4, {0, 8, 1, 9});
  const auto compared = compare_placements(problem, *choose_placement(problem));
  REQUIRE(compared.size() == 5);
  CHECK(compared[0].policy == "berth");
  CHECK(compared[0].remote == 0);
  CHECK(compared[0].worst_port == 2);
  CHECK(compared[0].shared == 0);

  CHECK(compared[1].policy == "block");
  CHECK(devices_of(compared[1]) == std::vector<std::size_t>{0, 1, 2, 3});
  CHECK(compared[1].remote == 2);
  CHECK(compared[1].worst_port == 4);

  CHECK(compared[2].policy == "round-robin");
  CHECK(devices_of(compared[2]) == std::vector<std::size_t>{0, 4, 1, 5});
  CHECK(compared[2].remote == 0);

  CHECK(compared[3].policy == "numa");
  CHECK(devices_of(compared[3]) == std::vector<std::size_t>{0, 4, 1, 5});
  CHECK(compared[4].policy == "first-free");
  CHECK(compared[4].remote == 0);
}

TEST_CASE("Each rank alone takes what others have already", "[plan_compare]") {
  const PlacementProblem problem = two_ports(1, {0, 1});
  const auto compared = compare_placements(problem, *choose_placement(problem));
  CHECK(compared[0].shared == 0);
  CHECK(compared[0].remote == 1);
  CHECK(compared[3].policy == "numa");
  CHECK(compared[3].shared == 1);
  CHECK(compared[3].remote == 0);
  CHECK(compared[3].worst_port == 2);
  CHECK(compared[3].distance < compared[0].distance);
}

TEST_CASE("The first that comes can take what the second needs", "[plan_compare]") {
  // Rank 0 may be anywhere, rank 1 on the left only: in rank order, rank 0 takes the one device there.
  PlacementProblem problem = two_ports(1, {0, 1});
  problem.ranks[0].allowed_cpus = CpuSet::range(0, 0) | CpuSet::range(8, 8);
  problem.topology.numa_nodes[1].cpus = *parse_cpu_list("8-15,24-31");
  const auto compared = compare_placements(problem, *choose_placement(problem));
  CHECK(compared[4].policy == "first-free");
  CHECK(compared[0].remote <= compared[4].remote);
  CHECK(compared[0].distance <= compared[4].distance);
}

TEST_CASE("No policy is better than the optimum in its own objective", "[plan_compare]") {
  for (const std::vector<unsigned>& cores : std::vector<std::vector<unsigned>>{
           {0}, {0, 1, 2, 3}, {8, 9, 0}, {0, 8, 1, 9, 2, 10, 3, 11}, {15, 14, 13, 12, 11, 10, 9}}) {
    const PlacementProblem problem = two_ports(4, cores);
    const Placement best = *choose_placement(problem);
    for (const ComparedPlacement& compared : compare_placements(problem, best)) {
      if (compared.shared > 0) continue;
      for (std::size_t level = 0; level < best.objective.size(); ++level) {
        INFO(compared.policy << ", " << compared.objective[level].name);
        CHECK(compared.objective[level].value >= best.objective[level].value);
        if (compared.objective[level].value > best.objective[level].value) break;
      }
    }
  }
}

TEST_CASE("An alternative says which level it would cost", "[plan_explain]") {
  const PlacementProblem problem = two_ports(4, {0, 8});
  const Placement best = *choose_placement(problem);
  const auto alternatives = find_alternatives(problem, best);
  REQUIRE(alternatives.size() == 2);
  REQUIRE(alternatives[0].size() == 1);
  CHECK(problem.devices[alternatives[0][0].device].port == "right");
  CHECK_FALSE(alternatives[0][0].swap_with);
  CHECK(to_string(alternatives[0][0]) == "remote 0 -> 1");
}

TEST_CASE("Where no device is free, the alternative is to change places", "[plan_explain]") {
  const PlacementProblem problem = two_ports(1, {0, 8});
  const auto alternatives = find_alternatives(problem, *choose_placement(problem));
  REQUIRE(alternatives[0].size() == 1);
  CHECK(alternatives[0][0].swap_with == 1U);
  CHECK(to_string(alternatives[0][0]) == "remote 0 -> 2");
}

TEST_CASE("Where a chain of ranks costs less than a swap, the chain is the alternative", "[plan_explain]") {
  const auto cpus = [](const char* list) { return *parse_cpu_list(list); };
  PlacementProblem problem;
  problem.topology = two_sockets();
  for (const char* cpu : {"0", "8", "1"}) problem.ranks.push_back({cpus(cpu), {}});
  for (const char* local : {"0", "0,8", "1,8"}) {
    PlacementDevice device;
    device.port = local;
    device.local_cpus = cpus(local);
    problem.devices.push_back(device);
  }
  const auto alternatives = find_alternatives(problem, *choose_placement(problem));
  // Rank 0 on the second device: rank 1 would be remote from the first, but local to the third, and rank 2 near the
  // first.
  REQUIRE(alternatives[0].size() == 2);
  const Alternative& second = alternatives[0][0];
  CHECK(second.device == 1);
  CHECK(to_string(second) == "numa 0 -> 1");
  CHECK_FALSE(second.swap_with);
  REQUIRE(second.moves.size() == 2);
  CHECK(second.moves[0].rank == 1);
  CHECK(second.moves[0].device == 2);
  CHECK(second.moves[1].rank == 2);
  CHECK(second.moves[1].device == 0);
}

TEST_CASE("A rank with several devices has alternatives for each", "[plan_explain]") {
  PlacementProblem problem = two_ports(2, {0});
  problem.devices_per_rank = 2;
  PlacementDevice third = problem.devices[0];
  third.port = "third";
  problem.devices.push_back(third);
  const Placement best = *choose_placement(problem);
  REQUIRE(best.choices[0].devices.size() == 2);
  const auto alternatives = find_alternatives(problem, best);
  CHECK(alternatives[0].size() == 2);
  for (const Alternative& other : alternatives[0]) {
    CHECK(std::ranges::count(best.choices[0].devices, other.instead_of) == 1);
    CHECK(std::ranges::count(best.choices[0].devices, other.device) == 0);
  }
  for (const ComparedPlacement& one : compare_placements(problem, best)) CHECK(one.choices[0].devices.size() == 2);
}

TEST_CASE("What is equally good came later", "[plan_explain]") {
  PlacementProblem problem = two_ports(1, {0});
  problem.devices[1].local_cpus = problem.devices[0].local_cpus;
  const auto alternatives = find_alternatives(problem, *choose_placement(problem));
  REQUIRE(alternatives[0].size() == 1);
  CHECK(alternatives[0][0].level.empty());
  CHECK(to_string(alternatives[0][0]) == "as good, but its device comes later");
}
