// VF attributes on netdevsim, the kernel's simulated NIC: it accepts what no emulated hardware does, and its VFs are
// numbers of a PF without PCI functions. The suite vf_attributes makes it and runs this; BERTH_NETDEVSIM names the PF.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "launcher/broker/vf_settings.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/netlink_vf.hpp"
#include "tests/error_of.hpp"

using namespace berth;

namespace {

VfTarget find_target(unsigned vf) {
  const char* name = std::getenv("BERTH_NETDEVSIM");
  REQUIRE(name != nullptr);
  const auto link = LinkSocket().find(name);
  REQUIRE(link);
  return {.text = "VF " + std::to_string(vf) + " of " + name, .driver = "netdevsim", .pf_index = link->index, .vf = vf};
}

VfAttributes read(const VfTarget& target) { return VfSocket().find(target.pf_index, target.vf).value(); }

void set(const VfTarget& target, const VfAttributes& wanted) {
  set_vf_attributes(target, "fast", wanted);
  CHECK(select(read(target), wanted) == wanted);
}

/// Undoes `changed`: all is as it was then.
void restore(const VfTarget& target, const VfAttributes& before, const VfAttributes& changed) {
  set_vf_attributes(target, "fast", select(before, changed));
  CHECK(read(target) == before);
}

std::string refusal(const VfTarget& target, const VfAttributes& wanted) {
  return testing::error_of([&] { set_vf_attributes(target, "fast", wanted); }).render();
}

const VfAttributes kAll{.vlan = VfVlan{4094, 7, VlanProtocol::dot1ad},
                        .mac = MacAddress{2, 0, 0, 0, 0, 1},
                        .min_rate = 100U,
                        .max_rate = 200U,
                        .spoofchk = true,
                        .trust = true,
                        .link_state = VfLinkState::disable};

}  // namespace

TEST_CASE("Each attribute is set, read back and restored, and no other changes") {
  const VfTarget target = find_target(1);
  const VfTarget neighbour = find_target(2);
  const VfAttributes before = read(target), beside = read(neighbour);
  const std::array<VfAttributes, 10> each{{{.vlan = VfVlan{7, 0, VlanProtocol::dot1q}},
                                           {.vlan = VfVlan{4094, 5, VlanProtocol::dot1ad}},
                                           {.mac = MacAddress{2, 0, 0, 0, 0, 9}},
                                           {.min_rate = 10U},
                                           {.max_rate = 1000U},
                                           {.min_rate = 10U, .max_rate = 20U},
                                           {.spoofchk = true},
                                           {.trust = true},
                                           {.link_state = VfLinkState::enable},
                                           {.link_state = VfLinkState::disable}}};
  for (const VfAttributes& wanted : each) {
    CAPTURE(to_json_value(wanted).dump());
    set(target, wanted);
    CHECK(read(neighbour) == beside);
    restore(target, before, wanted);
  }
}

TEST_CASE("All attributes at once, set, read back and restored, also to others than the defaults") {
  const VfTarget target = find_target(0);
  const VfAttributes defaults = read(target);
  set(target, kAll);
  const VfAttributes found = read(target);
  const VfAttributes wanted{.vlan = VfVlan{5, 1, VlanProtocol::dot1q},
                            .mac = MacAddress{2, 0, 0, 0, 0, 2},
                            .min_rate = 0U,
                            .max_rate = 50U,
                            .spoofchk = false,
                            .trust = false,
                            .link_state = VfLinkState::automatic};
  set(target, wanted);
  restore(target, found, wanted);
  restore(target, defaults, kAll);
}

TEST_CASE("What the driver refuses is named, and nothing else is changed") {
  const VfTarget target = find_target(3);
  const VfAttributes before = read(target);
  std::string text = refusal(target, {.min_rate = 300U, .max_rate = 200U});
  CAPTURE(text);
  CHECK(text.find("cannot set min_rate, max_rate of VF 3") != std::string::npos);
  CHECK(text.find("remove min_rate, max_rate from [pool.vf] of pool \"fast\"") != std::string::npos);
  // The kernel has GUIDs of VFs for InfiniBand only, so it reports none, and what is not known cannot be restored.
  text = refusal(target, {.node_guid = 0x0002c90300123456});
  CHECK(text.find("cannot set guid of VF 3") != std::string::npos);
  CHECK(text.find("driver netdevsim does not report it") != std::string::npos);
  CHECK(read(target) == before);
  CHECK(VfSocket().change(target.pf_index, target.vf, {.node_guid = 0x0002c90300123456}) == EOPNOTSUPP);
  CHECK_FALSE(VfSocket().find(target.pf_index, 4));
}
