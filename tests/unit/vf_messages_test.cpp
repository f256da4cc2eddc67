// The messages about VFs that no driver at hand can answer are constructed here, after the kernel's headers; what igb
// and netdevsim accept is set for real in the rig (suite vf_attributes).
#include "launcher/system/vf_messages.hpp"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdint>

using namespace berth;

namespace {

const VfAttributes kAll{.vlan = VfVlan{4094, 7, VlanProtocol::dot1ad},
                        .mac = MacAddress{2, 0, 0, 0, 0, 1},
                        .min_rate = 10U,
                        .max_rate = 100000U,
                        .spoofchk = false,
                        .trust = true,
                        .link_state = VfLinkState::disable,
                        .node_guid = 0xfedcba9876543210,
                        .port_guid = 0x0002c90300123456};

/// An answer about two VFs, the second with GUIDs, as an InfiniBand driver gives it.
NetlinkMessage make_answer() {
  ifinfomsg header{};
  NetlinkMessage message = make_netlink_message(RTM_NEWLINK, 0, header);
  put(message, IFLA_IFNAME, std::string("ib0"));
  nlattr* list = nla_nest_start(message.get(), IFLA_VFINFO_LIST);
  for (std::uint32_t vf = 0; vf < 2; ++vf) {
    nlattr* info = nla_nest_start(message.get(), IFLA_VF_INFO);
    const ifla_vf_mac mac{vf, {0, 2, 0xc9, 3, 0, static_cast<std::uint8_t>(vf)}};
    put(message, IFLA_VF_MAC, &mac, sizeof mac);
    // What a driver does not fill in keeps the kernel's preset.
    const ifla_vf_spoofchk spoofchk{vf, UINT32_MAX};
    put(message, IFLA_VF_SPOOFCHK, &spoofchk, sizeof spoofchk);
    const ifla_vf_link_state state{vf, IFLA_VF_LINK_STATE_ENABLE};
    put(message, IFLA_VF_LINK_STATE, &state, sizeof state);
    const ifla_vf_guid guid{vf, 0x0002c90300000000ULL + vf};
    if (vf == 1) put(message, IFLA_VF_IB_NODE_GUID, &guid, sizeof guid);
    put(message, IFLA_VF_IB_PORT_GUID, &guid, vf == 1 ? sizeof guid : 4);  // of VF 0 it is cut off
    nla_nest_end(message.get(), info);
  }
  nla_nest_end(message.get(), list);
  return message;
}

}  // namespace

TEST_CASE("A constructed message that sets all attributes of a VF, GUIDs too, says what was wanted and no more",
          "[vf]") {
  // The kernel answers in the form in which it is told, so one parser reads both.
  const NetlinkMessage message = make_vf_change(7, 3, kAll);
  CHECK(parse_vf(nlmsg_hdr(message.get()), 3) == kAll);
  CHECK_FALSE(parse_vf(nlmsg_hdr(message.get()), 2));
  const auto* header = static_cast<const ifinfomsg*>(nlmsg_data(nlmsg_hdr(message.get())));
  CHECK(header->ifi_index == 7);
  const NetlinkMessage guids = make_vf_change(7, 3, {.node_guid = 1, .port_guid = 2});
  const nlattr* list = nlmsg_find_attr(nlmsg_hdr(guids.get()), sizeof(ifinfomsg), IFLA_VFINFO_LIST);
  REQUIRE(list != nullptr);
  const nlattr* info = nla_find(static_cast<nlattr*>(nla_data(list)), nla_len(list), IFLA_VF_INFO);
  REQUIRE(info != nullptr);
  CHECK(nla_len(info) == 2 * nla_total_size(sizeof(ifla_vf_guid)));
}

TEST_CASE("A constructed answer of an InfiniBand driver: GUIDs are read, what is preset or cut off is not known",
          "[vf]") {
  const NetlinkMessage message = make_answer();
  const VfAttributes first{.mac = MacAddress{0, 2, 0xc9, 3, 0, 0}, .link_state = VfLinkState::enable};
  const VfAttributes second{.mac = MacAddress{0, 2, 0xc9, 3, 0, 1},
                            .link_state = VfLinkState::enable,
                            .node_guid = 0x0002c90300000001,
                            .port_guid = 0x0002c90300000001};
  CHECK(parse_vf(nlmsg_hdr(message.get()), 0) == first);
  CHECK(parse_vf(nlmsg_hdr(message.get()), 1) == second);
  CHECK_FALSE(parse_vf(nlmsg_hdr(message.get()), 2));
}
