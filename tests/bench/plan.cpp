// Measures how long planning takes, in CPU time: choose_placement() on nodes that exist nowhere. Prints one JSON object
// per measurement:
//
//   bench_plan ROUNDS
//
//   {"what": "plan", "how": "bound to cores", "ranks": 128, "devices": 256, "ms": 1.5}
//
// Nodes have 8 NUMA nodes in 2 packages, a core or more per rank, and VFs on 8 cards with 2 ports each.
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/core/placement.hpp"

namespace berth::bench {
namespace {

constexpr unsigned kNumaNodes = 8;
constexpr unsigned kPorts = 16;

Topology make_topology(unsigned cores) {
  Topology topology;
  topology.cpus = CpuSet::range(0, cores - 1);
  for (unsigned core = 0; core < cores; ++core) topology.cores.push_back(CpuSet::range(core, core));
  for (unsigned node = 0; node < kNumaNodes; ++node) {
    topology.numa_nodes.push_back(
        {node, CpuSet::range(node * cores / kNumaNodes, (node + 1) * cores / kNumaNodes - 1)});
    topology.distances.emplace_back();
    for (unsigned other = 0; other < kNumaNodes; ++other)
      topology.distances.back().push_back(node == other ? 10 : node / 4 == other / 4 ? 12 : 32);
  }
  topology.packages = {CpuSet::range(0, cores / 2 - 1), CpuSet::range(cores / 2, cores - 1)};
  return topology;
}

PlacementProblem make_node(unsigned ranks, unsigned devices) {
  PlacementProblem problem;
  problem.topology = make_topology(2 * std::max(ranks, kNumaNodes));
  for (unsigned device = 0; device < devices; ++device) {
    const unsigned port = device * kPorts / devices;
    problem.devices.push_back({"port" + std::to_string(port),
                               "card" + std::to_string(port / 2),
                               problem.topology.numa_nodes[port / 2].cpus,
                               100,
                               1,
                               {}});
  }
  return problem;
}

/// Rank by rank two cores of the next NUMA node; `shift` moves them over the nodes' borders.
void bind(PlacementProblem& problem, unsigned ranks, unsigned length, unsigned shift) {
  const unsigned cores = static_cast<unsigned>(problem.topology.cores.size());
  for (unsigned rank = 0; rank < ranks; ++rank) {
    const unsigned node = rank % kNumaNodes;
    const unsigned first = node * cores / kNumaNodes + rank / kNumaNodes * 2 + shift;
    CpuSet cpus = CpuSet::range(std::min(first, cores - 1), std::min(first + length, cores) - 1);
    problem.ranks.push_back({std::move(cpus), {}});
  }
}

void measure(std::string_view how, const PlacementProblem& problem) {
  // CPU time: planning waits for nothing, and what else runs on the machine should not count.
  const std::clock_t start = std::clock();
  if (!choose_placement(problem)) std::abort();
  const double took_ms = 1000.0 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const nlohmann::ordered_json line{{"what", "plan"},
                                    {"how", how},
                                    {"ranks", problem.ranks.size()},
                                    {"devices", problem.devices.size()},
                                    {"ms", took_ms}};
  std::printf("%s\n", line.dump().c_str());
}

void measure_round() {
  for (const unsigned ranks : {1U, 8U, 32U, 128U, 512U}) {
    const PlacementProblem node = make_node(ranks, std::max(2 * ranks, kPorts));
    PlacementProblem bound = node;
    bind(bound, ranks, 2, 0);
    measure("bound to cores", bound);
    bound.order = PlacementOrder::balance;
    measure("bound to cores, balance first", bound);
    PlacementProblem packed = node;
    for (unsigned rank = 0; rank < ranks; ++rank)
      packed.ranks.push_back({packed.topology.cores[rank % (ranks / 8 + 1)], {}});
    measure("packed on one NUMA node", packed);
    PlacementProblem unbound = node;
    unbound.ranks.assign(ranks, {node.topology.cpus, {}});
    measure("unbound", unbound);
    PlacementProblem long_masks = node;
    bind(long_masks, ranks, ranks, ranks / 8);  // each straddles NUMA nodes in a way of its own
    measure("overlapping masks across NUMA nodes", long_masks);
  }
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  const std::string_view text = argc == 2 ? argv[1] : "";
  int rounds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rounds);
  if (error != std::errc() || end != text.data() + text.size() || rounds < 1) {
    std::fputs("usage: bench_plan ROUNDS\n", stderr);
    return 2;
  }
  for (int round = 0; round < rounds; ++round) berth::bench::measure_round();
  return 0;
}
