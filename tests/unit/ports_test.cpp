#include "launcher/core/ports.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

/// A Socket Direct card: two ports (functions 0 and 1), each on both sockets, with netdevs ib0 to ib3.
Inventory socket_direct(const std::string& vendor, const std::string& guid) {
  Inventory inventory;
  inventory.host = "n1";
  inventory.topology = two_sockets();
  for (unsigned number = 0; number < 4; ++number) {
    const std::string address = std::string(number < 2 ? "0003:01:00." : "0033:01:00.") + std::to_string(number % 2);
    RdmaDevice rdma;
    rdma.name = "mlx5_" + std::to_string(number);
    rdma.pci = parse_pci_address(address);
    rdma.vendor = vendor;
    rdma.image_guid = guid;
    rdma.link = LinkState::up;
    rdma.link_layer = "InfiniBand";
    rdma.numa_node = number / 2;
    inventory.rdma_devices.push_back(rdma);
    NetDevice net;
    net.name = "ib" + std::to_string(number);
    net.pci = rdma.pci;
    net.link = LinkState::up;
    net.link_layer = "InfiniBand";
    inventory.net_devices.push_back(net);
  }
  return inventory;
}

PlanInput on_hosts_network(const Inventory& inventory, unsigned ranks) {
  Pool pool;
  pool.name = "hca";
  pool.kind = PoolKind::host;
  pool.parents = {"mlx5_*"};
  pool.berths_per_parent = 4;
  pool.rdma.mode = RdmaMode::shared;
  Policy policy;
  policy.pools = {pool};
  return {{}, policy, inventory, {1000, 1000, "alice", {}, ""}, unbound_ranks(ranks)};
}

/// A GPU beside the VFs of each socket, below the same switch.
PlanInput with_gpus(unsigned ranks) {
  PlanInput input = two_socket_input(ranks);
  Inventory& inventory = input.inventory;
  for (unsigned number = 0; number < 2; ++number) {
    const std::string bus = number == 0 ? "3b" : "af";
    const std::string upstream = (number == 0 ? "pci0000:3a/0000:3a:00.0/" : "pci0000:ae/0000:ae:00.0/");
    for (VirtualFunction& vf : inventory.virtual_functions)
      if (vf.numa_node == number) vf.pci_path = upstream + to_string(vf.pci);
    const std::string gpu = "0000:" + bus + ":08.0";
    inventory.gpus.push_back(
        {*parse_pci_address(gpu), number, inventory.topology.numa_nodes[number].cpus, upstream + gpu});
  }
  return input;
}

}  // namespace

TEST_CASE("Functions of a Socket Direct card are two ports of one card", "[ports]") {
  const Inventory inventory = socket_direct("15b3", "506b:4b03:0011:2233");
  std::vector<std::string> names;
  for (const NetDevice& net : inventory.net_devices) {
    const Port port = find_port(inventory, net.pci, net.name);
    names.push_back(port.name);
    CHECK(port.card == "506b:4b03:0011:2233");
    CHECK(port.link_layer == "InfiniBand");
  }
  CHECK(names == std::vector<std::string>{"ib0", "ib1", "ib0", "ib1"});
}

TEST_CASE("A GUID that is zero, or of another vendor, says nothing about cards", "[ports]") {
  for (const Inventory& inventory :
       {socket_direct("15b3", "0000:0000:0000:0000"), socket_direct("15b3", ""), socket_direct("1dd8", "0011:2233")}) {
    const NetDevice& third = inventory.net_devices[2];
    CHECK(find_port(inventory, third.pci, third.name).name == "ib2");
    CHECK(find_port(inventory, third.pci, third.name).card == "0033:01:00");
  }
  CHECK(find_port({}, std::nullopt, "eth0").name == "eth0");
  CHECK(find_port({}, std::nullopt, "eth0").card.empty());
}

TEST_CASE("Two ranks get the two wires of a Socket Direct card, not one wire twice", "[ports]") {
  const NodePlan plan = make_plan(on_hosts_network(socket_direct("15b3", "506b:4b03:0011:2233"), 2));
  REQUIRE(plan.berths.size() == 2);
  CHECK(plan.berths[0].parent == "mlx5_0");
  CHECK(plan.berths[1].parent == "mlx5_3");
}

TEST_CASE("A pool has one fabric: that of its first parent", "[ports]") {
  PlanInput input = on_hosts_network(socket_direct("15b3", "0"), 4);
  input.inventory.rdma_devices[1].link_layer = "Ethernet";
  const NodePlan plan = make_plan(input);
  for (const BerthSpec& berth : plan.berths) CHECK(berth.parent != "mlx5_1");
  CHECK(std::ranges::count(plan.rejected,
                           std::string("link layer Ethernet, and the pool's first port mlx5_0 has InfiniBand"),
                           &Rejection::reason) == 4);
}

TEST_CASE("A PCI path is read from the root to the function", "[ports]") {
  const PciLocation location = make_pci_location("pci0000:3a/0000:3a:00.0/0000:3b:00.0/0000:3c:00.1", {});
  CHECK(location.host_bridge == "pci0000:3a");
  CHECK(location.bridges == std::vector<std::string>{"0000:3b:00.0", "0000:3a:00.0"});
  CHECK(location.function == "0000:3c:00.1");
  CHECK(make_pci_location("", {}) == PciLocation{});
}

TEST_CASE("A rank's GPU counts before its CPUs", "[rank_gpus]") {
  PlanInput input = with_gpus(2);
  input.ranks[0].allowed_cpus = CpuSet::range(0, 3);
  input.ranks[1].allowed_cpus = CpuSet::range(8, 11);
  const NodePlan without = make_plan(input);
  CHECK(without.berths[*without.ranks[0].berth].numa_node == 0U);
  CHECK_FALSE(without.ranks[0].gpu);
  input.request.gpus = {"1", "0"};  // crosswise
  const NodePlan plan = make_plan(input);
  CHECK(plan.berths[*plan.ranks[0].berth].numa_node == 1U);
  CHECK(plan.berths[*plan.ranks[1].berth].numa_node == 0U);
  CHECK(plan.ranks[0].gpu == parse_pci_address("0000:af:08.0"));
  CHECK(plan.ranks[0].reason.find("PIX to its GPU") != std::string::npos);
  input.request.gpus = {"0000:3b:08.0"};  // for both
  for (const BerthSpec& berth : make_plan(input).berths) CHECK(berth.numa_node == 0U);
}

TEST_CASE("The nearest GPU of each rank, in turn where there are several", "[rank_gpus]") {
  PlanInput input = with_gpus(4);
  input.request.gpus = {"nearest"};
  for (unsigned rank = 0; rank < 4; ++rank) input.ranks[rank].allowed_cpus = CpuSet::range(4 * rank, 4 * rank + 3);
  const NodePlan bound = make_plan(input);
  for (unsigned rank = 0; rank < 4; ++rank) CHECK(bound.ranks[rank].gpu == input.inventory.gpus[rank / 2].pci);
  input.ranks = unbound_ranks(4);
  const NodePlan unbound = make_plan(input);
  for (unsigned rank = 0; rank < 4; ++rank) CHECK(unbound.ranks[rank].gpu == input.inventory.gpus[rank % 2].pci);
}

TEST_CASE("A GPU that the node does not have is refused", "[rank_gpus]") {
  PlanInput input = with_gpus(1);
  const auto why = [&](const std::string& gpu) {
    input.request.gpus = {gpu};
    const Error error = refusal(input);
    CHECK(error.code == ErrorCode::usage);
    return error.why;
  };
  CHECK(why("2") == "n2 has no GPU '2', but 2: 0000:3b:08.0, 0000:af:08.0");
  CHECK(why("0000:00:02.0") == "n2 has no GPU '0000:00:02.0', but 2: 0000:3b:08.0, 0000:af:08.0");
  input.inventory.gpus.clear();
  CHECK(why("nearest") == "n2 has no GPU");
}
