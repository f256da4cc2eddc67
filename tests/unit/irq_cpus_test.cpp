#include "launcher/core/irq_cpus.hpp"

#include <catch2/catch_test_macros.hpp>

#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Cpus = std::vector<unsigned>;

TEST_CASE("Interrupts go to other cores first, then to other threads, then round again", "[irq_cpus]") {
  const Topology topology = two_sockets();
  const CpuSet cpus = *parse_cpu_list("4-5,20-21");
  CHECK(choose_irq_cpus(topology, cpus, 3) == Cpus{4, 5, 20});
  CHECK(choose_irq_cpus(topology, cpus, 6) == Cpus{4, 5, 20, 21, 4, 5});
  CHECK(choose_irq_cpus(topology, *parse_cpu_list("20"), 2) == Cpus{20, 20});
}

TEST_CASE("CPUs that no core has serve interrupts too; no CPU serves none", "[irq_cpus]") {
  Topology topology = two_sockets();
  topology.cores.clear();
  CHECK(choose_irq_cpus(topology, *parse_cpu_list("3,1"), 3) == Cpus{1, 3, 1});
  CHECK(choose_irq_cpus(topology, {}, 3).empty());
  CHECK(choose_irq_cpus(topology, *parse_cpu_list("3"), 0).empty());
}
