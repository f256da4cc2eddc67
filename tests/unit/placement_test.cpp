#include "launcher/core/placement.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <random>
#include <set>

#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

PlacementDevice device(std::string port, std::optional<unsigned> numa_node, std::uint32_t speed = 100000) {
  return {std::move(port), {}, device_cpus(two_sockets(), numa_node, {}), speed};
}

PlacementProblem problem(const std::vector<std::string>& allowed, std::vector<PlacementDevice> devices) {
  PlacementProblem made{two_sockets(), {}, std::move(devices)};
  for (const std::string& list : allowed) made.ranks.push_back({*parse_cpu_list(list), {}});
  return made;
}

std::vector<std::size_t> devices_of(const PlacementProblem& made) {
  std::vector<std::size_t> devices;
  const auto placement = choose_placement(made);
  REQUIRE(placement);
  for (const PlacementChoice& choice : placement->choices) devices.push_back(choice.devices.front());
  return devices;
}

using Devices = std::vector<std::size_t>;

}  // namespace

TEST_CASE("Each rank gets a device of its own NUMA node", "[placement]") {
  const auto made = problem({"8-9", "0-1"}, {device("a", 0), device("b", 1)});
  CHECK(devices_of(made) == Devices{1, 0});
  CHECK(choose_placement(made)->choices[0].reason == "local to NUMA node 1, port b carries 1 of 2 ranks");
}

TEST_CASE("A device of unknown place is better than a remote one and worse than a local one", "[placement]") {
  CHECK(devices_of(problem({"0"}, {device("a", 1), device("b", {})})) == Devices{1});
  CHECK(devices_of(problem({"0"}, {device("a", {}), device("b", 0)})) == Devices{1});
  const auto unknown = choose_placement(problem({"0"}, {device("a", {})}));
  CHECK_THAT(unknown->choices[0].reason, ContainsSubstring("NUMA node is unknown"));
}

TEST_CASE("Firmware that calls the whole machine local knows nothing", "[placement]") {
  PlacementDevice vague = device("a", {});
  vague.local_cpus = two_sockets().cpus;
  CHECK(devices_of(problem({"0"}, {vague, device("b", 0)})) == Devices{1});
}

TEST_CASE("A device next to some cores of a NUMA node is nearest to those", "[placement]") {
  PlacementDevice first = device("a", 0);
  first.local_cpus = *parse_cpu_list("4-7,20-23");
  PlacementDevice second = device("b", 0);
  second.local_cpus = *parse_cpu_list("0-3,16-19");
  CHECK(devices_of(problem({"0-1", "4"}, {first, second})) == Devices{1, 0});
}

TEST_CASE("Load is spread over ports before a second device of one port is taken", "[placement]") {
  CHECK(devices_of(problem({"0", "1"}, {device("a", 0), device("a", 0), device("b", 0), device("b", 0)})) ==
        Devices{0, 2});
}

TEST_CASE("A port of four times the speed carries more", "[placement]") {
  const std::vector<PlacementDevice> devices{device("slow", 0, 25000), device("slow", 0, 25000),
                                             device("fast", 0, 100000), device("fast", 0, 100000)};
  CHECK(devices_of(problem({"0", "1"}, devices)) == Devices{2, 3});
}

TEST_CASE("Locality first keeps ranks near, balance first keeps ports even", "[placement]") {
  auto made = problem({"0", "1"}, {device("a", 0), device("a", 0), device("b", 1), device("b", 1)});
  CHECK(devices_of(made) == Devices{0, 1});
  made.order = PlacementOrder::balance;
  CHECK(devices_of(made) == Devices{0, 2});
}

TEST_CASE("Fewer devices than ranks: refused, or shared evenly", "[placement]") {
  auto made = problem({"0", "1", "8"}, {device("a", 0), device("b", 1)});
  CHECK_FALSE(choose_placement(made));
  made.shortage = Shortage::share;
  CHECK(devices_of(made) == Devices{0, 0, 1});
  CHECK_THAT(choose_placement(made)->choices[0].reason, ContainsSubstring("shared by 2 ranks"));
  made.devices.clear();
  CHECK_FALSE(choose_placement(made));
}

TEST_CASE("No rank needs no device", "[placement]") {
  const auto none = choose_placement(problem({}, {}));
  REQUIRE(none);
  CHECK(none->choices.empty());
}

TEST_CASE("A rank that spans both NUMA nodes is told so", "[placement]") {
  const auto choices = choose_placement(problem({"7-8"}, {device("a", 0)}));
  CHECK_THAT(choices->choices[0].reason, ContainsSubstring("span NUMA nodes 0,1, the device is on NUMA node 0"));
}

TEST_CASE("On one NUMA domain nothing is remote", "[placement]") {
  auto made = problem({"0"}, {device("a", 3)});
  made.topology.numa_nodes = {{3, made.topology.cpus}};
  made.devices.front().local_cpus = device_cpus(made.topology, 3, {});
  CHECK_THAT(choose_placement(made)->choices[0].reason, ContainsSubstring("one NUMA domain"));
}

TEST_CASE("Random problems: no device twice, loads even when shared, always the same answer", "[placement]") {
  std::mt19937 random(4711);
  const auto pick = [&](unsigned most) { return static_cast<unsigned>(random() % most); };
  for (int round = 0; round < 2000; ++round) {
    PlacementProblem made{two_sockets(), {}, {}};
    made.order = pick(2) == 0 ? PlacementOrder::locality : PlacementOrder::balance;
    const unsigned ranks = 1 + pick(12);
    for (unsigned rank = 0; rank < ranks; ++rank) {
      made.ranks.push_back({pick(3) == 0 ? made.topology.cpus : made.topology.cores[pick(16)], {}});
    }
    const unsigned devices = 1 + pick(12);
    for (unsigned number = 0; number < devices; ++number) {
      const unsigned place = pick(3);
      made.devices.push_back(device("port" + std::to_string(pick(4)),
                                    place == 2 ? std::nullopt : std::optional<unsigned>(place), 25000U * pick(5)));
    }
    made.shortage = pick(2) == 0 ? Shortage::fail : Shortage::share;
    const auto placement = choose_placement(made);
    REQUIRE(placement.has_value() == (devices >= ranks || made.shortage == Shortage::share));
    if (!placement) continue;
    REQUIRE(placement->choices.size() == ranks);
    std::map<std::size_t, unsigned> load;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const PlacementChoice& choice = placement->choices[rank];
      REQUIRE(choice.devices.size() == 1);
      REQUIRE(choice.devices.front() < devices);
      REQUIRE(choice.cpus.is_subset_of(made.ranks[rank].allowed_cpus));
      REQUIRE_FALSE(choice.cpus.empty());
      REQUIRE(++load[choice.devices.front()] <= (ranks + devices - 1) / devices);
    }
    const auto again = choose_placement(made);
    for (std::size_t rank = 0; rank < ranks; ++rank)
      REQUIRE(again->choices[rank].devices == placement->choices[rank].devices);
  }
}

TEST_CASE("Several devices of a rank are of different cards before they are near", "[placement]") {
  auto made = problem({"0", "1"}, {device("a", 0), device("a", 0), device("b", 1), device("b", 1)});
  made.devices_per_rank = 2;
  const auto placement = choose_placement(made);
  REQUIRE(placement);
  CHECK(placement->choices[0].devices == Devices{0, 2});
  CHECK(placement->choices[1].devices == Devices{1, 3});
  CHECK(placement->choices[0].nearness == Nearness::remote);
  made.devices.pop_back();
  CHECK_FALSE(choose_placement(made));
}

TEST_CASE("Of ranks for which devices do not suffice, those are served that are near", "[placement]") {
  auto made = problem({"8", "0", "9"}, {device("a", 0)});
  made.shortage = Shortage::some;
  const auto placement = choose_placement(made);
  REQUIRE(placement);
  CHECK(placement->choices[0].devices.empty());
  CHECK(placement->choices[1].devices == Devices{0});
  CHECK(placement->objective.front() == PlacementLevel{"unserved", 2});
}

TEST_CASE("Ranks that share a pool of CPUs go to the NUMA node of the devices where cores allow either",
          "[placement]") {
  auto made = problem({"0-31", "0-31", "0-31"}, {device("a", 1), device("a", 1), device("a", 1)});
  const auto placement = choose_placement(made);
  REQUIRE(placement);
  CHECK(to_string(placement->choices[0].cpus) == "0-7,16-23");
  CHECK(to_string(placement->choices[1].cpus) == "8-11,24-27");
  made.devices = {device("a", 0), device("a", 0), device("a", 0)};
  CHECK(to_string(choose_placement(made)->choices[1].cpus) == "4-7,20-23");
}
