#include "launcher/core/vf_attributes.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/core/hardware_addresses.hpp"
#include "launcher/core/plan.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

VfAttributes full_attributes() {
  return {.vlan = VfVlan{4094, 7, VlanProtocol::dot1ad},
          .mac = MacAddress{2, 0, 0, 0, 0, 1},
          .min_rate = 0U,
          .max_rate = 100000U,
          .spoofchk = false,
          .trust = true,
          .link_state = VfLinkState::enable,
          .node_guid = 0xfedcba9876543210,
          .port_guid = 1};
}

}  // namespace

TEST_CASE("VF attributes survive their text form, all of them and none", "[vf]") {
  CHECK(parse_vf_attributes(to_json_value(full_attributes())) == full_attributes());
  CHECK(to_json_value(VfAttributes{}) == nlohmann::json::object());
  CHECK(parse_vf_attributes(nlohmann::json::object()) == VfAttributes{});
}

TEST_CASE("VF attributes that cannot be are refused by name", "[vf]") {
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, nlohmann::json>>{
           {"vlan", 7},
           {"vlan", {{"id", 7}, {"qos", 0}, {"protocol", "802.1x"}}},
           {"mac", "02:00"},
           {"max_rate", "fast"},
           {"spoofchk", 1},
           {"link_state", "up"},
           {"node_guid", "0002:c903:0012:345"},
           {"port_guid", "0002-c903-0012-3456"},
           {"colour", "red"}}) {
    CAPTURE(key);
    CHECK_THAT(testing::error_of([&] { parse_vf_attributes({{key, value}}); }).why, ContainsSubstring(key));
  }
}

TEST_CASE("GUIDs as sysfs writes them", "[vf]") {
  CHECK(guid_to_string(0x0002c90300123456) == "0002:c903:0012:3456");
  CHECK(parse_guid("0002:c903:0012:3456") == 0x0002c90300123456U);
  for (const char* text : {"", "0002:c903:0012", "0002:c903:0012:3456:", "0002:c903:0012:345g", " 002:c903:0012:3456"})
    CHECK_FALSE(parse_guid(text));
}

TEST_CASE("Addresses that Berth makes are local, and differ by node and device", "[vf]") {
  std::set<MacAddress> macs;
  std::set<std::uint64_t> guids;
  for (const char* host : {"n1", "n2"})
    for (const char* device : {"0000:3b:02.0", "0000:3b:02.1", "0000:3b:02.10"}) {
      const MacAddress mac = make_mac_address(host, device);
      CHECK((mac[0] & 3U) == 2);
      CHECK(mac == make_mac_address(host, device));
      macs.insert(mac);
      CHECK((make_guid(host, device) >> 56U & 3U) == 2);
      guids.insert(make_guid(host, device));
    }
  CHECK(macs.size() == 6);
  CHECK(guids.size() == 6);
}

TEST_CASE("Each VF of a pool wants what the policy says, and addresses of its own", "[vf]") {
  Pool pool = two_pools().pools[0];
  const Inventory node = two_socket_node();
  CHECK(make_candidates(pool, node)[0].berth.vf == VfAttributes{});
  pool.vf.attributes.vlan = VfVlan{7, 0, VlanProtocol::dot1q};
  pool.vf.generate_mac = pool.vf.generate_guid = true;
  const auto candidates = make_candidates(pool, node);
  const VfAttributes& first = candidates[0].berth.vf;
  CHECK(first.vlan->id == 7);
  CHECK(first.mac == make_mac_address(node.host, candidates[0].berth.id));
  CHECK(first.node_guid == make_guid(node.host, candidates[0].berth.id));
  CHECK(first.port_guid == first.node_guid);
  CHECK_FALSE(first.max_rate);
  CHECK(candidates[1].berth.vf.mac != first.mac);
}
