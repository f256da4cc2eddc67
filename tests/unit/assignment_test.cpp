#include "launcher/core/assignment.hpp"

#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <optional>
#include <random>

using namespace berth;

namespace {

using Over = CostLevel::Over;
using Total = std::vector<double>;
using Devices = std::vector<std::size_t>;

/// The objective, computed from its definition; divisors are powers of two, so that doubles are exact.
Total total(const AssignmentProblem& problem, const std::vector<std::size_t>& devices) {
  std::vector<double> device_load(problem.column_of.size(), 0);
  std::vector<double> port_load(problem.card_of.size(), 0);
  std::vector<double> card_load(problem.card_of.size(), 0);
  double unserved = 0;
  for (const std::size_t device : devices) {
    if (device == problem.column_of.size()) {
      ++unserved;
      continue;
    }
    ++device_load[device];
    ++port_load[problem.port_of[device]];
    ++card_load[problem.card_of[problem.port_of[device]]];
  }
  Total sums{unserved};
  for (const CostLevel& level : problem.levels) {
    double sum = 0;
    const auto divisor = [&](std::size_t i) {
      return level.divisors.empty() ? 1.0 : static_cast<double>(level.divisors[i]);
    };
    for (std::size_t rank = 0; rank < devices.size() && level.over == Over::pairs; ++rank) {
      if (devices[rank] == problem.column_of.size()) continue;
      const std::size_t row = problem.rows_of[rank].front();
      sum += static_cast<double>(level.values[row * problem.columns + problem.column_of[devices[rank]]]) / divisor(row);
    }
    if (level.over != Over::pairs) {
      const auto& loads = level.over == Over::devices ? device_load : level.over == Over::ports ? port_load : card_load;
      for (std::size_t i = 0; i < loads.size(); ++i)
        if (loads[i] > 0) sum += loads[i] * loads[i] / divisor(i);
    }
    sums.push_back(sum);
  }
  sums.insert(sums.end(), devices.begin(), devices.end());
  return sums;
}

/// The best of all assignments, by trying each.
Total least_total(const AssignmentProblem& problem) {
  const std::size_t none = problem.column_of.size();
  std::vector<std::size_t> devices(problem.rows_of.size(), none);
  std::vector<std::size_t> load(none, 0);
  std::optional<Total> best;
  const std::function<void(std::size_t)> place = [&](std::size_t rank) {
    if (rank == devices.size()) {
      Total sums = total(problem, devices);
      if (!best || sums < *best) best = std::move(sums);
      return;
    }
    for (std::size_t device = 0; device <= none; ++device) {
      if (device < none && load[device] == problem.capacity[device]) continue;
      if (device < none) ++load[device];
      devices[rank] = device;
      place(rank + 1);
      if (device < none) --load[device];
    }
  };
  place(0);
  return *best;
}

AssignmentProblem random_problem(std::mt19937& random, std::size_t ranks, std::size_t devices, bool wide = false) {
  const auto pick = [&](std::size_t most) { return static_cast<std::size_t>(random() % most); };
  AssignmentProblem problem;
  problem.rows = 1 + pick(ranks);
  const std::size_t ports = 1 + pick(3);
  for (std::size_t port = 0; port < ports; ++port) problem.card_of.push_back(port == 0 ? 0 : pick(2));
  for (std::size_t rank = 0; rank < ranks; ++rank) problem.rows_of.push_back({pick(problem.rows)});
  for (std::size_t device = 0; device < devices; ++device) {
    // Two columns per port, so that devices of one column have one port.
    problem.port_of.push_back(device < ports ? device : pick(ports));
    problem.column_of.push_back(2 * problem.port_of.back() + pick(2));
    problem.capacity.push_back(1 + pick(2));
  }
  problem.card_of.resize(std::min(ports, devices));
  problem.columns = 2 * ports;
  const auto pairs = [&](std::size_t most, std::size_t divisors) {
    CostLevel level;
    for (std::size_t i = 0; i < problem.rows * problem.columns; ++i) level.values.push_back(pick(most));
    for (std::size_t row = 0; row < problem.rows; ++row) level.divisors.push_back(std::size_t{1} << pick(divisors));
    return level;
  };
  const auto loads = [&](Over over, std::size_t count) {
    CostLevel level{over, {}, {}};
    for (std::size_t i = 0; i < count; ++i) level.divisors.push_back(std::size_t{1} << pick(3));
    return level;
  };
  problem.levels = {pairs(2, 1), pairs(2, 1), pairs(wide ? 1000 : 4, wide ? 40 : 3)};
  std::vector<CostLevel> load{
      loads(Over::cards, 2), loads(Over::ports, problem.card_of.size()), {Over::devices, {}, {}}};
  problem.levels.insert(pick(2) == 0 ? problem.levels.begin() : problem.levels.end(), load.begin(), load.end());
  return problem;
}

std::vector<std::size_t> flat(const AssignmentProblem& problem, const std::vector<Devices>& assigned) {
  std::vector<std::size_t> devices;
  for (const Devices& rank : assigned) devices.push_back(rank.empty() ? problem.column_of.size() : rank.front());
  return devices;
}

/// Each device a column of its own, with a port and a card of its own.
AssignmentProblem single_ports(std::vector<std::uint64_t> costs, std::size_t devices) {
  AssignmentProblem problem;
  problem.rows = costs.size() / devices;
  problem.columns = devices;
  for (std::size_t row = 0; row < problem.rows; ++row) problem.rows_of.push_back({row});
  for (std::size_t device = 0; device < devices; ++device) {
    problem.column_of.push_back(device);
    problem.port_of.push_back(device);
    problem.card_of.push_back(device);
    problem.capacity.push_back(1);
  }
  problem.levels = {{Over::pairs, std::move(costs), {}}};
  return problem;
}

}  // namespace

TEST_CASE("A rank that could go anywhere makes way for one that could not", "[placement]") {
  const auto problem = single_ports({0, 0, 0, 1}, 2);
  CHECK(flat(problem, assign_devices(problem)) == Devices{1, 0});
}

TEST_CASE("Of equally good devices the earlier ranks get the earlier ones", "[placement]") {
  const auto problem = single_ports(std::vector<std::uint64_t>(16, 7), 4);
  CHECK(flat(problem, assign_devices(problem)) == Devices{0, 1, 2, 3});
}

TEST_CASE("With fewer devices than ranks those are served whom it costs least", "[placement]") {
  const auto problem = single_ports({5, 1, 0}, 1);
  CHECK(flat(problem, assign_devices(problem)) == Devices{1, 1, 0});
}

TEST_CASE("Several devices of one rank come from different cards", "[placement]") {
  auto problem = single_ports({0, 0, 1, 1, 0, 0, 1, 1}, 4);
  problem.card_of = {0, 0, 1, 1};
  problem.devices_per_rank = 2;
  problem.levels.insert(problem.levels.begin(), {{Over::own_cards, {}, {}}, {Over::own_ports, {}, {}}});
  const auto assigned = assign_devices(problem);
  CHECK(assigned[0] == Devices{0, 2});
  CHECK(assigned[1] == Devices{1, 3});
}

TEST_CASE("Nothing is better than the assignment, nor as good and lexicographically smaller", "[placement]") {
  std::mt19937 random(8128);
  for (int round = 0; round < 4000; ++round) {
    const std::size_t ranks = 1 + random() % 5;
    const AssignmentProblem problem = random_problem(random, ranks, 1 + random() % 5);
    const std::vector<std::size_t> devices = flat(problem, assign_devices(problem));
    REQUIRE(devices.size() == ranks);
    REQUIRE(total(problem, devices) == least_total(problem));
  }
}

TEST_CASE("Costs of more than 128 bits are compared exactly", "[placement]") {
  std::mt19937 random(496);
  for (int round = 0; round < 300; ++round) {
    const AssignmentProblem problem = random_problem(random, 1 + random() % 4, 1 + random() % 4, true);
    REQUIRE(total(problem, flat(problem, assign_devices(problem))) == least_total(problem));
  }
}
