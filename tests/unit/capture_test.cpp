#include "launcher/core/capture.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "launcher/core/plan_json.hpp"
#include "tests/error_of.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

constexpr const char* kXml =
    "<?xml version=\"1.0\"?>\n<topology version=\"2.0\"><object type=\"Machine\"/></topology>\n";

constexpr const char* kPolicy = R"(version = 1
# who knows what this says
pinning.default = "cpus+mem"
[[pool]]
name = "fast"
kind = "sriov"
parents = ["eth2", "eth3"]
[[pool]]
name = "slow"
kind = "macvlan"
parents = ["eth0"]
berths = 4
[[allow]]
users = ["alice"]
pools = ["slow"]
max_devices = 3
[[allow]]
groups = ["physics"]
[images]
paths = ["/srv/images"]
[environment.set]
TOKEN = "123"
)";

/// A node on which nothing has its default value.
Inventory full_inventory() {
  Inventory inventory = two_socket_node();
  inventory.topology = {};
  NetDevice& device = inventory.net_devices[1];
  device.mac = {2, 0, 0, 0, 0, 1};
  device.kind = "bond";
  VirtualFunction& vf = inventory.virtual_functions[3];
  vf.rdma_devices = {"mlx5_7", "mlx5_8"};
  vf.netdev = "";
  vf.numa_node = std::nullopt;
  RdmaDevice rdma;
  rdma.name = "mlx5_0";
  rdma.pci = inventory.physical_functions[0].pci;
  rdma.netdev = "eth2";
  rdma.link = LinkState::up;
  rdma.speed_mbps = 100000;
  rdma.numa_node = 0;
  rdma.local_cpus = CpuSet::range(0, 7);
  rdma.pci_path = "pci0000:3a/0000:3a:00.0/0000:3b:00.0";
  rdma.link_layer = "InfiniBand";
  rdma.image_guid = "506b:4b03:0011:2233";
  rdma.vendor = "15b3";
  inventory.rdma_devices = {rdma};
  device.pci_path = rdma.pci_path;
  device.link_layer = "Ethernet";
  vf.pci_path = "pci0000:3a/0000:3a:00.0/0000:3b:02.3";
  inventory.gpus = {{*parse_pci_address("0000:3d:00.0"), 0U, CpuSet::range(0, 7), "pci0000:3a/0000:3d:00.0"}};
  inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  inventory.held = {{"0000:3b:02.0", true, true, "job 4711.0 (alice)", "", 4711},
                    {"0000:3b:02.1", true, false, "", "a process would not die", 0}};
  return inventory;
}

Capture full_capture() { return {full_inventory(), kXml, "version = 1\n", CpuSet::range(0, 31)}; }

std::string refusal(const std::string& text) {
  const Error error = testing::error_of([&] { parse_capture(text, "n2.json"); });
  CHECK(error.code == ErrorCode::host);
  CHECK_THAT(error.what_text, ContainsSubstring("cannot use the captured node 'n2.json'"));
  return error.why;
}

/// What is said of the full capture with the value at `pointer` replaced.
std::string refusal_of(const std::string& pointer, const json& value) {
  json document = json::parse(to_json_text(full_capture()));
  document[json::json_pointer(pointer)] = value;
  return refusal(document.dump());
}

}  // namespace

TEST_CASE("A captured node comes back as it was", "[capture]") {
  const Capture capture = full_capture();
  CHECK(parse_capture(to_json_text(capture), "n2.json") == capture);
  Capture bare;
  bare.hwloc_xml = kXml;
  CHECK(parse_capture(to_json_text(bare), "n2.json") == bare);
}

TEST_CASE("A capture of before GPUs and link layers were known is still read", "[capture]") {
  json document = json::parse(to_json_text(full_capture()));
  document["node"].erase("gpus");
  for (const char* key : {"pci_path", "link_layer", "image_guid", "vendor"})
    for (const char* list : {"net_devices", "virtual_functions", "rdma_devices"})
      for (json& item : document["node"][list]) item.erase(key);
  const Inventory inventory = parse_capture(document.dump(), "n2.json").inventory;
  CHECK(inventory.gpus.empty());
  CHECK(inventory.net_devices[1].link_layer.empty());
}

TEST_CASE("A capture plans as its node does", "[capture]") {
  PlanInput input = two_socket_input(3);
  const Capture capture = parse_capture(to_json_text({input.inventory, kXml, std::nullopt, {}}), "n2.json");
  const json live = to_json_value(make_plan(input));
  const Topology topology = input.inventory.topology;
  input.inventory = capture.inventory;
  input.inventory.topology = topology;
  CHECK(to_json_value(make_plan(input)) == live);
}

TEST_CASE("What may leave the site has job ids, but no users and no MAC addresses", "[capture]") {
  const Inventory inventory = make_shareable_inventory(full_inventory());
  CHECK(inventory.held[0].holder == "job 4711.0");
  CHECK(inventory.held[0].job == 4711);
  CHECK(inventory.net_devices[1].mac == MacAddress{});
  CHECK(to_json_text({inventory, kXml, std::nullopt, {}}).find("alice") == std::string::npos);
}

TEST_CASE("Of the policy stays what decides the plan of the capturing user", "[capture]") {
  const auto shared = [](const Caller& caller) { return make_shareable_policy(kPolicy, "policy.toml", caller); };
  const std::string text = shared({1000, 1000, "alice", {"users"}, ""});
  for (const char* secret : {"alice", "physics", "TOKEN", "/srv", "who knows"})
    CHECK(text.find(secret) == std::string::npos);
  const Policy original = parse_policy(kPolicy, "policy.toml");
  const Policy policy = parse_policy(text, "n2.json (policy)");
  CHECK(policy.pools == original.pools);
  CHECK(policy.pin == Pin::cpus_and_memory);
  const PoolGrant grant = choose_pool(policy, {}, {});
  CHECK(grant.pool->name == "slow");
  CHECK(grant.max_devices == 3U);
  Request fast;
  fast.pool = "fast";
  CHECK_THROWS_AS(choose_pool(policy, {}, fast), Error);

  // Both rules apply to this one; the first that gives a pool decides its limit.
  const Policy both = parse_policy(shared({1000, 1000, "alice", {"physics"}, ""}), "x");
  CHECK(choose_pool(both, {}, fast).max_devices == std::nullopt);
  Request slow;
  slow.pool = "slow";
  CHECK(choose_pool(both, {}, slow).max_devices == 3U);
  // And neither to this one: no rule at all would allow everything.
  const Policy neither = parse_policy(shared({1001, 1001, "bob", {}, ""}), "x");
  CHECK_THROWS_AS(choose_pool(neither, {}, {}), Error);
  CHECK_THROWS_AS(make_shareable_policy("version = 2", "policy.toml", {}), Error);
}

TEST_CASE("A capture that is damaged is refused with the place", "[capture]") {
  const std::string good = to_json_text(full_capture());
  CHECK_THAT(refusal(""), ContainsSubstring("n2.json:1:1: "));
  CHECK_THAT(refusal("{\n \"format\": nil }"), ContainsSubstring("n2.json:2:"));
  CHECK(refusal("[]") == "n2.json: the file is not an object");
  CHECK_THAT(refusal(std::string(100000, '[')), ContainsSubstring("more than 32 levels deep"));
  CHECK_THAT(refusal("{\"format\": \"\xff\"}"), ContainsSubstring("n2.json:1:1"));
  CHECK_THAT(refusal(std::string((64U << 20U) + 1, ' ')), ContainsSubstring("larger than 64 MiB"));
  for (std::size_t size = 0; size + 1 < good.size(); ++size)
    if (refusal(good.substr(0, size)).find("n2.json:") != 0) FAIL("cut at " << size);
}

TEST_CASE("A capture with wrong contents is refused with the key", "[capture]") {
  CHECK(refusal_of("/format", "tar") == "n2.json: format is not \"berth-capture\"");
  CHECK(refusal_of("/version", 2) == "n2.json: version is 2, and this program knows 1 only");
  CHECK_THAT(refusal_of("/version", -1), ContainsSubstring("version is not a whole number"));
  CHECK_THAT(refusal_of("/extra", 1), ContainsSubstring("has the key 'extra'"));
  CHECK(refusal_of("/cpus", "0-") == "n2.json: cpus is not a CPU list such as \"0-3,8\"");
  CHECK_THAT(refusal_of("/policy", 7), ContainsSubstring("policy is not a string"));
  CHECK_THAT(refusal_of("/node", json::array()), ContainsSubstring("node is not an object"));
  CHECK_THAT(refusal_of("/node/secret", 1), ContainsSubstring("node has the key 'secret'"));
  CHECK_THAT(refusal_of("/node/held", nullptr), ContainsSubstring("node.held is not an array"));
  CHECK_THAT(refusal_of("/node/held/0/leased", "yes"), ContainsSubstring("node.held[0].leased is not true or false"));
  CHECK_THAT(refusal_of("/node/net_devices/1/mtu", 1e12), ContainsSubstring("node.net_devices[1].mtu is not a whole"));
  CHECK_THAT(refusal_of("/node/net_devices/1/name", "a/b"), ContainsSubstring("node.net_devices[1].name is not"));
  CHECK_THAT(refusal_of("/node/net_devices/1/name", "eth0"), ContainsSubstring("name is there twice"));
  CHECK_THAT(refusal_of("/node/net_devices/1/link", "odd"), ContainsSubstring("link is not one of"));
  CHECK_THAT(refusal_of("/node/virtual_functions/1/pci", "3b"), ContainsSubstring("[1].pci is not a PCI address"));
  CHECK_THAT(refusal_of("/node/virtual_functions/1/pci", "0000:3b:02.0"), ContainsSubstring("[1].pci is there twice"));
}

TEST_CASE("The RDMA state of a capture is checked as well", "[capture]") {
  CHECK_THAT(refusal_of("/node/rdma_netns_mode", "odd"), ContainsSubstring("rdma_netns_mode is not one of exclusive,"));
  CHECK_THAT(refusal_of("/node/rdma_devices/0/link", 1), ContainsSubstring("node.rdma_devices[0].link is not a str"));
}

TEST_CASE("A VF that is its own PF, or whose PF is missing, is refused", "[capture]") {
  CHECK_THAT(refusal_of("/node/virtual_functions/0/pf", "0000:3b:02.0"),
             ContainsSubstring("node.virtual_functions[0].pf is not one of the physical functions"));
  CHECK_THAT(refusal_of("/node/virtual_functions/0/pci", "0000:3b:00.0"), ContainsSubstring("is there twice"));
}

TEST_CASE("The topology of a capture has to be XML", "[capture]") {
  CHECK_THAT(refusal_of("/hwloc", "machine"), ContainsSubstring("n2.json (hwloc):1:1: "));
  CHECK_THAT(refusal_of("/hwloc", "<topology>\n<object></topology>"), ContainsSubstring("(hwloc):2:11: "));
  CHECK_THAT(refusal_of("/hwloc", "<html/>"), ContainsSubstring("hwloc is not the XML of a topology"));
}
