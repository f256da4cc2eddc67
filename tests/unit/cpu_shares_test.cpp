#include "launcher/core/cpu_shares.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <random>

#include "launcher/core/locality.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

std::vector<CpuSet> masks(const std::vector<std::string>& lists) {
  std::vector<CpuSet> sets;
  for (const std::string& list : lists) sets.push_back(*parse_cpu_list(list));
  return sets;
}

std::vector<std::string> texts(const std::vector<CpuSet>& sets) {
  std::vector<std::string> lists;
  for (const CpuSet& set : sets) lists.push_back(to_string(set));
  return lists;
}

using Lists = std::vector<std::string>;

Lists shares(const Lists& allowed) { return texts(choose_cpus(two_sockets(), masks(allowed))); }

/// Whether every mask can have a core of its own, by trying everything: the test's own word, not the code's.
bool has_core_for_each(const std::vector<CpuSet>& cores, const std::vector<CpuSet>& allowed) {
  std::vector<bool> used(cores.size(), false);
  const std::function<bool(std::size_t)> place = [&](std::size_t rank) {
    if (rank == allowed.size()) return true;
    for (std::size_t core = 0; core < cores.size(); ++core) {
      if (used[core] || !cores[core].intersects(allowed[rank])) continue;
      used[core] = true;
      if (place(rank + 1)) return true;
      used[core] = false;
    }
    return false;
  };
  return place(0);
}

}  // namespace

TEST_CASE("NUMA domains are the distinct sets of CPUs", "[placement]") {
  Topology topology = two_sockets();
  CHECK(numa_domains(topology).size() == 2);
  topology.numa_nodes.push_back({9, topology.numa_nodes[0].cpus});  // high-bandwidth memory next to the same cores
  CHECK(numa_domains(topology).size() == 2);
  topology.numa_nodes.clear();
  topology.packages.clear();
  CHECK(numa_domains(topology) == std::vector{topology.cpus});
}

TEST_CASE("Masks of the scheduler that do not overlap stay", "[placement]") {
  const Lists allowed{"0-3", "4-7,20", "30", "8-11"};
  CHECK(shares(allowed) == allowed);
}

TEST_CASE("Two hyperthreads of one core stay with two ranks that were bound to them", "[placement]") {
  CHECK(shares({"0", "16"}) == Lists{"0", "16"});
}

TEST_CASE("Unbound ranks share all the cores, siblings together, without straddling NUMA nodes", "[placement]") {
  CHECK(shares(Lists(1, "0-31")) == Lists{"0-31"});
  CHECK(shares(Lists(2, "0-31")) == Lists{"0-7,16-23", "8-15,24-31"});
  CHECK(shares(Lists(3, "0-31")) == Lists{"0-3,16-19", "4-7,20-23", "8-15,24-31"});
  CHECK(shares(Lists(4, "0-31")) == Lists{"0-3,16-19", "4-7,20-23", "8-11,24-27", "12-15,28-31"});
  const Lists sixteen = shares(Lists(16, "0-31"));
  CHECK(sixteen.front() == "0,16");
  CHECK(sixteen.back() == "15,31");
}

TEST_CASE("A cgroup that leaves an uneven part of two NUMA nodes is shared by its cores", "[placement]") {
  CHECK(shares(Lists(3, "0-1,8-11,16-17,24-27")) == Lists{"0-1,16-17", "8-9,24-25", "10-11,26-27"});
}

TEST_CASE("With fewer cores than ranks each gets hardware threads of its own", "[placement]") {
  CHECK(shares(Lists(4, "0-1,16-17")) == Lists{"0", "16", "1", "17"});
  CHECK(shares(Lists(3, "0-1,16-17")) == Lists{"0", "16", "1,17"});
}

TEST_CASE("With fewer threads than ranks nobody is pinned to one", "[placement]") {
  CHECK(shares(Lists(3, "0,16")) == Lists{"0,16", "0,16", "0,16"});
}

TEST_CASE("A rank that can use one core only gets it from ranks that can do without", "[placement]") {
  CHECK(shares({"0-1,16-17", "0,16"}) == Lists{"1,17", "0,16"});
  CHECK(shares({"0-2,16-18", "0-1,16-17", "0,16"}) == Lists{"2,18", "1,17", "0,16"});
}

TEST_CASE("A NUMA node whose few cores no rank fits on as well as on the others stays empty", "[placement]") {
  CHECK(shares(Lists(2, "0-7,8")) == Lists{"0-3", "4-7"});
}

TEST_CASE("Dies without memory of their own are domains too", "[placement]") {
  Topology topology = two_sockets();
  topology.groups = topology.packages;
  topology.numa_nodes.erase(topology.numa_nodes.begin() + 1);
  CHECK(numa_domains(topology) == topology.packages);
}

TEST_CASE("Memory of the whole machine is no domain beside those of its parts", "[placement]") {
  Topology topology = two_sockets();
  topology.numa_nodes.push_back({9, topology.cpus});
  CHECK(numa_domains(topology).size() == 2);
}

TEST_CASE("CPUs that the topology does not list are usable", "[placement]") {
  CHECK(shares({"40-41", "40-41"}) == Lists{"40", "41"});
}

TEST_CASE("Random masks: always inside, never empty, disjoint wherever there is a core for each", "[placement]") {
  std::mt19937 random(20240607);
  const auto pick = [&](unsigned most) { return static_cast<unsigned>(random() % most); };
  for (int round = 0; round < 3000; ++round) {
    Topology topology;
    const unsigned cores = 1 + pick(8);
    const unsigned threads = 1 + pick(2);
    for (unsigned core = 0; core < cores; ++core) {
      CpuSet set;
      for (unsigned thread = 0; thread < threads; ++thread) set.add(core + thread * cores);
      topology.cores.push_back(set);
      topology.cpus |= set;
    }
    const unsigned domains = 1 + pick(3);
    for (unsigned node = 0; node < domains; ++node) topology.numa_nodes.push_back({node * 8, {}});
    for (unsigned core = 0; core < cores; ++core) {
      topology.numa_nodes[core * domains / cores].cpus |= topology.cores[core];
    }
    const bool equal = pick(2) == 0;
    std::vector<CpuSet> allowed(1 + pick(6));
    for (CpuSet& mask : allowed) {
      while (mask.empty()) {
        for (const unsigned cpu : topology.cpus.to_vector()) {
          if (pick(3) == 0) mask.add(cpu);
        }
      }
      if (equal) mask = allowed.front();
    }

    const std::vector<CpuSet> chosen = choose_cpus(topology, allowed);
    REQUIRE(chosen.size() == allowed.size());
    REQUIRE(chosen == choose_cpus(topology, allowed));
    const bool enough = has_core_for_each(topology.cores, allowed);
    for (std::size_t a = 0; a < chosen.size(); ++a) {
      REQUIRE_FALSE(chosen[a].empty());
      REQUIRE(chosen[a].is_subset_of(allowed[a]));
      for (std::size_t b = a + 1; b < chosen.size() && enough; ++b) REQUIRE_FALSE(chosen[a].intersects(chosen[b]));
    }
    if (equal && allowed.size() > 1 && allowed.size() < domains && enough) {  // what all may use, somebody does use
      CpuSet used;
      for (const CpuSet& cpus : chosen) used |= cpus;
      REQUIRE(used == allowed.front());
    }
  }
}
