#include "launcher/core/assignment.hpp"

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <random>

using namespace berth;

namespace {

void add(Cost& sum, const Cost& cost, std::size_t factor) {
  for (std::size_t level = 0; level < sum.size(); ++level)
    sum[level] += cost[level] * static_cast<std::int64_t>(factor);
}

/// The objective, computed from its definition.
Cost total(const AssignmentProblem& problem, const std::vector<std::size_t>& devices) {
  std::vector<std::size_t> device_load(problem.port_of.size(), 0);
  std::vector<std::size_t> port_load(problem.port_costs.size(), 0);
  Cost sum{};
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    add(sum, problem.costs[rank][devices[rank]], 1);
    ++device_load[devices[rank]];
    ++port_load[problem.port_of[devices[rank]]];
  }
  for (const std::size_t load : device_load) add(sum, problem.device_cost, load * load);
  for (std::size_t port = 0; port < port_load.size(); ++port) {
    add(sum, problem.port_costs[port], port_load[port] * port_load[port]);
  }
  return sum;
}

/// The least total of all assignments, by trying each.
Cost least_total(const AssignmentProblem& problem) {
  std::vector<std::size_t> devices(problem.costs.size(), 0);
  std::vector<std::size_t> load(problem.port_of.size(), 0);
  std::optional<Cost> best;
  const std::function<void(std::size_t)> place = [&](std::size_t rank) {
    if (rank == devices.size()) {
      const Cost cost = total(problem, devices);
      if (!best || cost < *best) best = cost;
      return;
    }
    for (std::size_t device = 0; device < load.size(); ++device) {
      if (load[device] == problem.capacity) continue;
      ++load[device];
      devices[rank] = device;
      place(rank + 1);
      --load[device];
    }
  };
  place(0);
  return *best;
}

AssignmentProblem random_problem(std::mt19937& random, std::size_t ranks, std::size_t devices, std::size_t ports) {
  const auto pick = [&](std::size_t most) { return static_cast<std::size_t>(random() % most); };
  AssignmentProblem problem;
  const bool balance = pick(2) == 0;
  for (std::size_t device = 0; device < devices; ++device) problem.port_of.push_back(pick(ports));
  for (std::size_t port = 0; port < ports; ++port) {
    problem.port_costs.push_back({});
    problem.port_costs.back()[balance ? 0 : 4] = static_cast<std::int64_t>(1 + pick(4));
  }
  problem.device_cost[balance ? 1 : 5] = 1;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    problem.costs.emplace_back();
    for (std::size_t device = 0; device < devices; ++device) {
      Cost cost{};
      cost[(balance ? 2 : 0) + pick(4)] = static_cast<std::int64_t>(pick(3));
      problem.costs.back().push_back(cost);
    }
  }
  problem.capacity = (ranks + devices - 1) / devices;
  return problem;
}

}  // namespace

TEST_CASE("A rank that could go anywhere makes way for one that could not", "[placement]") {
  AssignmentProblem problem;
  problem.port_of = {0, 1};
  problem.port_costs = {Cost{}, Cost{}};
  problem.costs = {{Cost{}, Cost{}}, {Cost{}, Cost{1}}};
  CHECK(assign_devices(problem) == std::vector<std::size_t>{1, 0});
}

TEST_CASE("Of equally good devices the earlier ranks get the earlier ones", "[placement]") {
  AssignmentProblem problem;
  problem.port_of = {0, 0, 1, 1};
  problem.port_costs = {Cost{0, 1}, Cost{0, 1}};
  problem.costs.assign(4, std::vector<Cost>(4, Cost{}));
  CHECK(assign_devices(problem) == std::vector<std::size_t>{0, 1, 2, 3});
}

TEST_CASE("Never dearer than the best of all assignments", "[placement]") {
  std::mt19937 random(8128);
  for (int round = 0; round < 4000; ++round) {
    const std::size_t ranks = 1 + random() % 5;
    const AssignmentProblem problem = random_problem(random, ranks, 1 + random() % 5, 1 + random() % 3);
    const std::vector<std::size_t> devices = assign_devices(problem);
    REQUIRE(devices.size() == ranks);
    std::vector<std::size_t> load(problem.port_of.size(), 0);
    for (const std::size_t device : devices) REQUIRE(++load[device] <= problem.capacity);
    REQUIRE(total(problem, devices) == least_total(problem));
  }
}

TEST_CASE("A large node is planned quickly enough to notice nothing", "[placement]") {
  std::mt19937 random(6);
  const AssignmentProblem problem = random_problem(random, 128, 128, 4);
  const auto start = std::chrono::steady_clock::now();
  CHECK(assign_devices(problem).size() == 128);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  CHECK(elapsed.count() < 60);  // seconds, unoptimised and on a busy machine; optimised it is some tens of milliseconds
}
