#include "launcher/core/usnic.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "launcher/core/capture.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/doctor/checks.hpp"
#include "launcher/system/rdma_port.hpp"
#include "launcher/system/sysfs.hpp"
#include "tests/unit/recorded_usnic.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

Inventory read(const RecordedUsnic& node) {
  KnownSpeeds none;
  Inventory inventory = read_inventory(node.path(), "n1", none);
  inventory.topology = two_sockets();
  inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  return inventory;
}

/// A whole vNIC for each rank, or (shared) VFs of those that stay on the host.
PlanInput input_for(const Inventory& inventory, const std::string& lines, unsigned ranks) {
  const std::string policy = "version = 1\n[[pool]]\nname = \"cisco\"\nkind = \"usnic\"\n" + lines;
  PlanInput input{.request = {},
                  .policy = parse_policy(policy, "policy.toml"),
                  .inventory = inventory,
                  .caller = {},
                  .ranks = unbound_ranks(ranks)};
  return input;
}
constexpr const char* kOwn = "parents = [\"eth4\", \"eth5\"]\naddresses = [\"10.77.0.0/16\"]\nnodes = \"n[1-2]\"\n";
constexpr const char* kShared = "parents = [\"eth4\"]\nvnic = \"shared\"\n";

std::vector<Candidate> candidates(const PlanInput& input) {
  return make_candidates(input.policy.pools.front(), input.inventory);
}

HeldDevice lease(const std::string& id, int process) {
  HeldDevice held;
  held.device_id = id;
  held.leased = true;
  held.holder = "job 7.0 (bob)";
  held.processes = {process};
  return held;
}

}  // namespace

TEST_CASE("recorded: usNIC devices are read with their uverbs device, interface, VFs and QPs", "[usnic]") {
  const RecordedUsnic node;
  node.qp(1, 12, 4711, 3);
  const Inventory inventory = read(node);
  REQUIRE(inventory.usnic_devices.size() == 2);
  const UsnicDevice& device = inventory.usnic_devices[1];
  CHECK(device.name == "usnic_1");
  CHECK(device.pci == parse_pci_address("0000:09:00.0"));
  CHECK(device.interface == "eth5");
  CHECK(device.uverbs == "uverbs1");
  CHECK(device.uverbs_pci == device.pci);
  CHECK(device.major == 231);
  CHECK(device.minor == 193);
  CHECK(device.vfs == 4);
  CHECK(device.qps_per_vf == 6);
  CHECK(device.cqs_per_vf == 6);
  CHECK(device.shares_vfs);
  CHECK(device.firmware == "4.2(3a)");
  CHECK(device.board == "207");
  CHECK(device.port_state == "4: ACTIVE");
  CHECK(to_string(device.mac) == "00:25:b5:00:00:02");
  CHECK(device.address == parse_ip_prefix("10.10.0.2/32"));
  CHECK(device.qps == std::vector<UsnicQp>{{12, 3, {4711}}});
  CHECK(device.defects.empty());
  CHECK(find_usnic_defect(device, inventory).empty());
  CHECK(find_usnic_netdev(device, inventory) == "eth5");
  CHECK(inventory.rdma_devices[1].netdev == "eth5");
}

TEST_CASE("recorded: a usNIC file that is missing, empty, unreadable or nonsense leaves out its device alone",
          "[usnic]") {
  struct Bad {
    std::string file;
    std::string reason;  // what it is called
  };
  for (const Bad& bad : {Bad{"iface", "iface"}, Bad{"max_vf", "max_vf"}, Bad{"qp_per_vf", "qp_per_vf"},
                         Bad{"cq_per_vf", "cq_per_vf"}, Bad{"fw_ver", "fw_ver"}, Bad{"ports/1/state", "ports/1/state"},
                         Bad{"ports/1/gids/0", "ports/1/gids/0"}, Bad{"qpn/9/summary", "qpn/9/summary"},
                         Bad{"uverbs/ibdev", "no uverbs device"}, Bad{"uverbs/dev", "uverbs0/dev"}}) {
    for (const std::string state : {"missing", "empty", "unreadable", "nonsense"}) {
      CAPTURE(bad.file, state);
      const RecordedUsnic node;
      node.qp(0, 9, 4711, 0);
      const bool is_verbs = bad.file.starts_with("uverbs/");
      const std::string path =
          is_verbs ? RecordedUsnic::uverbs(0) + bad.file.substr(7) : RecordedUsnic::device(0) + bad.file;
      if (state == "missing") node.remove(path);
      if (state == "empty") node.file(path, "");
      if (state == "unreadable") node.make_unreadable(path);
      if (state == "nonsense") node.file(path, "//\n");
      // A firmware version may be any text, and so may the state of a port.
      if (state == "nonsense" && (bad.file == "fw_ver" || bad.file == "ports/1/state")) continue;
      const auto devices = candidates(input_for(read(node), kOwn, 1));
      REQUIRE(devices.size() == 2);
      CHECK_THAT(devices[0].unusable, ContainsSubstring("what sysfs says of usnic_0 cannot be trusted"));
      CHECK_THAT(devices[0].unusable, ContainsSubstring(bad.reason));
      CHECK(devices[1].unusable.empty());
      const NodePlan plan = make_plan(input_for(read(node), kOwn, 1));
      CHECK(plan.berths.at(0).id == "0000:09:00.0");
    }
  }
}

TEST_CASE("recorded: usNIC files that contradict each other name no device", "[usnic]") {
  const RecordedUsnic node;
  std::string reason;
  SECTION("iface names the other interface") {
    node.file(RecordedUsnic::device(0) + "iface", "eth5\n");
    reason = "iface says 'eth5', and the interface of 0000:08:00.0 is 'eth4'";
  }
  SECTION("two uverbs devices claim it") {
    node.file(RecordedUsnic::uverbs(1) + "ibdev", "usnic_0\n");
    reason = "uverbs0, uverbs1 all say that they are its own";
  }
  SECTION("its uverbs device is another function's") {
    node.remove(RecordedUsnic::uverbs(0) + "device");
    node.link("sys/devices/pci0000:00/0000:08:00.0/infiniband_verbs/uverbs0/device", "../../../0000:09:00.0");
    reason = "uverbs0 belongs to 0000:09:00.0, and usnic_0 to 0000:08:00.0";
  }
  SECTION("more VFs than its PF has") {
    node.file(RecordedUsnic::device(0) + "max_vf", "5\n");
    reason = "max_vf says 5, and its PF has 4 VFs";
  }
  SECTION("the MAC address of another") {
    node.file(RecordedUsnic::device(0) + "ports/1/gids/0", RecordedUsnic::gid(RecordedUsnic::mac(1), {10, 10, 0, 1}));
    reason = "its GID has the MAC address 00:25:b5:00:00:02, and eth4 has 00:25:b5:00:00:01";
  }
  SECTION("no VFs") {
    node.file(RecordedUsnic::device(0) + "max_vf", "0\n");
    reason = "no VF of it is bound to usnic_verbs";
  }
  SECTION("no QPs") {
    node.file(RecordedUsnic::device(0) + "qp_per_vf", "0\n");
    reason = "no QPs or no CQs";
  }
  SECTION("nothing about who holds VFs") {
    node.remove(RecordedUsnic::device(0) + "qpn");
    reason = "qpn, which says who holds VFs, is missing";
  }
  CHECK_THAT(candidates(input_for(read(node), kOwn, 1))[0].unusable, ContainsSubstring(reason));
  CHECK_THAT(candidates(input_for(read(node), kShared, 1))[0].unusable, ContainsSubstring(reason));
}

TEST_CASE("recorded: each rank gets a whole vNIC, found again while it is parked", "[usnic]") {
  const RecordedUsnic node;
  const NodePlan plan = make_plan(input_for(read(node), kOwn, 2));
  REQUIRE(plan.berths.size() == 2);
  const BerthSpec& first = plan.berths[0];
  CHECK(first.id == "0000:08:00.0");
  CHECK(first.kind == PoolKind::usnic);
  CHECK(first.parent == "eth4");
  CHECK(first.pci == parse_pci_address("0000:08:00.0"));
  CHECK(first.interface == "rdma0");
  CHECK(first.rdma.mode == RdmaMode::shared);
  CHECK(first.rdma.self_test);
  CHECK(to_string(plan.berths[1].addresses.at(0)) == "10.77.0.2/16");

  node.move_netdev(0, "eth4", "rdma0");
  Inventory inventory = read(node);
  CHECK_THAT(candidates(input_for(inventory, "parents = [\"usnic_0\"]\naddresses = \"inherit\"\n", 1))[0].unusable,
             ContainsSubstring("in another network namespace, and Berth did not put it there"));
  HeldDevice held;
  held.device_id = first.id;
  held.parked = true;
  held.parent = "eth4";
  inventory.held = {held};
  const NodePlan again = make_plan(input_for(inventory, kOwn, 2));
  CHECK(again.berths == plan.berths);
}

TEST_CASE("recorded: ranks on a shared vNIC are counted against its VFs", "[usnic]") {
  const RecordedUsnic node;
  const NodePlan plan = make_plan(input_for(read(node), kShared, 4));
  CHECK(plan.berths.at(3).id == "usnic_0.rdma3");
  CHECK(plan.berths.at(3).kind == PoolKind::host);
  CHECK(plan.berths.at(3).parent == "usnic_0");
  CHECK(plan.berths.at(3).interface.empty());

  const Error five = refusal(input_for(read(node), kShared, 5));
  CHECK(five.what_text == "cannot give 5 ranks a device each from pool \"cisco\"");
  CHECK_THAT(five.why, ContainsSubstring("4 devices, 4 free; usnic_0 has 4 VFs, and a rank takes 1"));

  // Somebody else has QPs on two VFs, three of them.
  node.qp(0, 7, 4711, 0);
  node.qp(0, 8, 4711, 0);
  node.qp(0, 9, 4712, 2);
  const Error three = refusal(input_for(read(node), kShared, 3));
  CHECK_THAT(three.why, ContainsSubstring("usnic_0 has 4 VFs, 2 of them taken by others (process 4711)"));
  CHECK(make_plan(input_for(read(node), kShared, 2)).berths.size() == 2);

  // QPs of ranks that hold leases are counted once, as leases.
  Inventory inventory = read(node);
  inventory.usnic_devices[0].qps[2].processes = {4712, 900, 1};
  inventory.held = {lease("usnic_0.rdma0", 900)};
  CHECK(make_plan(input_for(inventory, kShared, 2)).berths.at(0).id == "usnic_0.rdma1");
  CHECK(refusal(input_for(inventory, kShared, 3)).code == ErrorCode::busy);

  // Who shares a share would take more VFs than were counted.
  PlanInput sharing = input_for(inventory, kShared, 3);
  sharing.request.share = true;
  CHECK_THAT(refusal(sharing).why, ContainsSubstring("it is what one rank takes"));
}

TEST_CASE("recorded: QPs of a rank share VFs only where the driver lets them", "[usnic]") {
  const RecordedUsnic node;
  const std::string two = std::string(kShared) + "qps_per_rank = 2\n";
  CHECK(candidates(input_for(read(node), two, 1)).size() == 4);
  node.file("sys/module/usnic_verbs/parameters/usnic_ib_share_vf", "0\n");
  CHECK(candidates(input_for(read(node), two, 1)).size() == 2);
  node.remove("sys/module/usnic_verbs/parameters/usnic_ib_share_vf");
  CHECK(candidates(input_for(read(node), two, 1)).size() == 2);
  CHECK_THAT(refusal(input_for(read(node), two + "berths = 3\n", 3)).why,
             ContainsSubstring("3 devices, 2 free; usnic_0 has 4 VFs, and a rank takes 2; 1 unusable"));
}

TEST_CASE("recorded: more ranks than VFs cannot share a whole vNIC either", "[usnic]") {
  const RecordedUsnic node;
  PlanInput input = input_for(read(node), "parents = [\"eth4\"]\naddresses = \"inherit\"\n", 5);
  input.request.share = true;
  const Error error = refusal(input);
  CHECK(error.what_text == "cannot let 5 ranks share device 0000:08:00.0 of pool \"cisco\"");
  CHECK(error.why == "usnic_0 has 4 VFs, and a rank takes 1");
  input.ranks = unbound_ranks(4);
  CHECK(make_plan(input).berths.size() == 1);
}

TEST_CASE("recorded: a vNIC without IPv4, held by others, or of a node in the wrong mode is refused", "[usnic]") {
  const RecordedUsnic node;
  node.take_address(0);
  CHECK(candidates(input_for(read(node), kOwn, 1))[0].unusable.empty());  // it will get one
  CHECK(candidates(input_for(read(node), "parents = [\"eth4\"]\naddresses = \"inherit\"\n", 1))[0].unusable ==
        "eth4 has no IPv4 address, and usNIC needs one");
  CHECK(candidates(input_for(read(node), kShared, 1))[0].unusable == "eth4 has no IPv4 address, and usNIC needs one");

  node.qp(1, 7, 4711, 0);
  CHECK(candidates(input_for(read(node), kOwn, 1))[1].unusable == "process 4711 has QPs on 1 of its VFs");
  Inventory inventory = read(node);
  inventory.held = {lease("usnic_0.rdma2", 900)};
  CHECK(candidates(input_for(inventory, kOwn, 1))[0].unusable == "ranks share it: leased by job 7.0 (bob)");

  inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  const Error error = refusal(input_for(inventory, kOwn, 1));
  CHECK(error.why ==
        "its rdma = \"shared\" needs RDMA devices that all network namespaces can use, since usNIC's cannot move, and "
        "the kernel of n1 is in exclusive mode");
  CHECK_THAT(error.fix, ContainsSubstring("netns_mode=1"));
}

TEST_CASE("recorded: a captured node has its usNIC devices", "[usnic]") {
  const RecordedUsnic node;
  node.qp(0, 7, 4711, 0);
  Inventory inventory = make_shareable_inventory(read(node));
  inventory.topology = {};
  const Capture capture{inventory, "<?xml version=\"1.0\"?>\n<topology version=\"2.0\"/>\n", std::nullopt, CpuSet()};
  const Capture parsed = parse_capture(to_json_text(capture), "capture.json");
  CHECK(parsed.inventory.usnic_devices == inventory.usnic_devices);
  CHECK(parsed.inventory.usnic_devices[0].mac == MacAddress{});
  CHECK(find_usnic_defect(parsed.inventory.usnic_devices[0], parsed.inventory).empty());
}

TEST_CASE("The GID of a usNIC is its MAC and IPv4 address", "[usnic]") {
  const auto gid = parse_usnic_gid("fe80:0000:0a0a:0001:0225:b5ff:fe00:0001");
  REQUIRE(gid);
  CHECK(to_string(gid->mac) == "00:25:b5:00:00:01");
  CHECK(gid->address == parse_ip_prefix("10.10.0.1/32"));
  CHECK_FALSE(parse_usnic_gid("fe80:0000:0000:0000:0225:b5ff:fe00:0001")->address);
  for (const char* bad :
       {"", "fe80", "fe80:0000:0a0a:0001:0225:b5ff:fe00:00g1", "fe80:0000:0a0a:0001:0225:b5aa:fe00:0001",
        "0000:0000:0000:0000:0000:ffff:0a0a:0001", "fe80:0000:0a0a.0001:0225:b5ff:fe00:0001"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_usnic_gid(bad));
  }
}

TEST_CASE("The line about a QP says who has it and which VF it takes", "[usnic]") {
  CHECK(parse_usnic_qp("QPN: 12 State: (RTS) PID: 4711 VF Idx: 3 WQ[0] RQ[0] CQ[0]") == UsnicQp{12, 3, {4711}});
  CHECK(parse_usnic_qp("QPN: 12 State: (Init) PID: 4711 VF Idx: 3") == UsnicQp{12, 3, {4711}});
  for (const char* bad : {"", "QPN: 12", "QPN: 12 State: (RTS) PID: VF Idx: 3", "QPN: x State: (RTS) PID: 1 VF Idx: 3",
                          "QPN: 12 State: (RTS) PID: 4711 VF Idx: 3WQ"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_usnic_qp(bad));
  }
}

TEST_CASE("recorded: the rank's self-test sees whether the driver knows its address", "[usnic]") {
  const RecordedUsnic node;
  const UniqueFd sysfs(open(node.path("sys").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const MacAddress mac = RecordedUsnic::mac(0);
  const std::vector<IpPrefix> own = {*parse_ip_prefix("10.10.0.1/16")};
  CHECK_FALSE(find_usnic_gid_defect(sysfs.get(), "usnic_0", mac, own));
  CHECK(find_usnic_gid_defect(sysfs.get(), "usnic_0", RecordedUsnic::mac(1), own) ==
        "its GID has the MAC address 00:25:b5:00:00:01, not 00:25:b5:00:00:02");
  CHECK(find_usnic_gid_defect(sysfs.get(), "usnic_0", mac, {*parse_ip_prefix("10.10.0.9/16")}) ==
        "its driver knows the address 10.10.0.1 of it");
  node.take_address(0);
  CHECK(find_usnic_gid_defect(sysfs.get(), "usnic_0", mac, own) == "its driver knows no IPv4 address of it");
}

TEST_CASE("recorded: the doctor names what keeps usNIC from working", "[usnic]") {
  const RecordedUsnic node;
  node.take_address(0);
  node.remove(RecordedUsnic::uverbs(1) + "ibdev");
  NodeFacts facts;
  facts.inventory = read(node);
  facts.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  facts.policy.policy = input_for(facts.inventory, "parents = [\"eth4\"]\naddresses = \"inherit\"\n", 1).policy;
  Findings findings = check_usnic(facts);
  REQUIRE(findings.size() == 4);
  CHECK_THAT(findings[0].what, ContainsSubstring("no IOMMU"));
  CHECK(findings[1].severity == Severity::error);
  CHECK_THAT(findings[1].what, ContainsSubstring("mode exclusive"));
  CHECK(findings[2].severity == Severity::warning);
  CHECK(findings[2].what == "usNIC device usnic_0 has no IPv4 address");
  CHECK(findings[3].severity == Severity::error);
  CHECK_THAT(findings[3].why, ContainsSubstring("uverbs1/ibdev cannot be read or is empty"));

  facts.kernel.has_iommu = true;
  facts.inventory = read(RecordedUsnic());
  findings = check_usnic(facts);
  REQUIRE(findings.size() == 2);
  CHECK(findings[0].severity == Severity::ok);
  facts.inventory.usnic_devices.clear();
  CHECK(check_usnic(facts).at(0).what == "no usNIC device");
}
