#include "launcher/system/vf_messages.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cstring>

// Linux 5.18; leaves out the VFs' counters, with which some hundred VFs do not fit into one attribute.
#ifndef RTEXT_FILTER_SKIP_STATS
#define RTEXT_FILTER_SKIP_STATS (1 << 3)
#endif

namespace berth {

namespace {

ifinfomsg make_header(unsigned index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  return header;
}

/// The structure in an attribute; nullopt if it is absent or shorter.
template <typename Value>
std::optional<Value> parse(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(Value))) return std::nullopt;
  Value value;
  std::memcpy(&value, nla_data(attribute), sizeof value);
  return value;
}

std::optional<VfVlan> parse_vlan(const nlattr* list) {
  if (list == nullptr) return std::nullopt;
  const auto info =
      parse<ifla_vf_vlan_info>(nla_find(static_cast<nlattr*>(nla_data(list)), nla_len(list), IFLA_VF_VLAN_INFO));
  if (!info) return std::nullopt;
  return VfVlan{info->vlan, info->qos,
                ntohs(info->vlan_proto) == ETH_P_8021AD ? VlanProtocol::dot1ad : VlanProtocol::dot1q};
}

/// Drivers that do not know a flag leave what the kernel preset: all ones.
std::optional<bool> parse_flag(std::optional<std::uint32_t> value) {
  if (!value || *value == UINT32_MAX) return std::nullopt;
  return *value != 0;
}

/// The attributes, if they are those of VF number `vf`.
std::optional<VfAttributes> parse_info(nlattr* info, unsigned vf) {
  nlattr* all[IFLA_VF_MAX + 1] = {};
  if (nla_parse_nested(all, IFLA_VF_MAX, info, nullptr) < 0) return std::nullopt;
  const auto mac = parse<ifla_vf_mac>(all[IFLA_VF_MAC]);
  if (!mac || mac->vf != vf) return std::nullopt;
  VfAttributes attributes;
  std::copy_n(mac->mac, attributes.mac.emplace().size(), attributes.mac->begin());
  attributes.vlan = parse_vlan(all[IFLA_VF_VLAN_LIST]);
  if (const auto rate = parse<ifla_vf_rate>(all[IFLA_VF_RATE])) {
    attributes.min_rate = rate->min_tx_rate;
    attributes.max_rate = rate->max_tx_rate;
  }
  if (const auto value = parse<ifla_vf_spoofchk>(all[IFLA_VF_SPOOFCHK]))
    attributes.spoofchk = parse_flag(value->setting);
  if (const auto value = parse<ifla_vf_trust>(all[IFLA_VF_TRUST])) attributes.trust = parse_flag(value->setting);
  if (const auto value = parse<ifla_vf_link_state>(all[IFLA_VF_LINK_STATE]); value && value->link_state < 3)
    attributes.link_state = static_cast<VfLinkState>(value->link_state);
  if (const auto value = parse<ifla_vf_guid>(all[IFLA_VF_IB_NODE_GUID])) attributes.node_guid = value->guid;
  if (const auto value = parse<ifla_vf_guid>(all[IFLA_VF_IB_PORT_GUID])) attributes.port_guid = value->guid;
  return attributes;
}

static_assert(static_cast<int>(VfLinkState::automatic) == IFLA_VF_LINK_STATE_AUTO &&
              static_cast<int>(VfLinkState::enable) == IFLA_VF_LINK_STATE_ENABLE &&
              static_cast<int>(VfLinkState::disable) == IFLA_VF_LINK_STATE_DISABLE);

template <typename Value>
void put_value(const NetlinkMessage& message, int attribute, const Value& value) {
  put(message, attribute, &value, sizeof value);
}

void put_attributes(const NetlinkMessage& message, unsigned vf, const VfAttributes& attributes) {
  if (attributes.vlan) {
    nlattr* list = nla_nest_start(message.get(), IFLA_VF_VLAN_LIST);
    const std::uint16_t protocol = attributes.vlan->protocol == VlanProtocol::dot1ad ? ETH_P_8021AD : ETH_P_8021Q;
    put_value(message, IFLA_VF_VLAN_INFO,
              ifla_vf_vlan_info{vf, attributes.vlan->id, attributes.vlan->qos, htons(protocol)});
    nla_nest_end(message.get(), list);
  }
  if (attributes.mac) {
    ifla_vf_mac mac{vf, {}};
    std::copy(attributes.mac->begin(), attributes.mac->end(), mac.mac);
    put_value(message, IFLA_VF_MAC, mac);
  }
  if (attributes.min_rate && attributes.max_rate)
    put_value(message, IFLA_VF_RATE, ifla_vf_rate{vf, *attributes.min_rate, *attributes.max_rate});
  if (attributes.spoofchk) put_value(message, IFLA_VF_SPOOFCHK, ifla_vf_spoofchk{vf, *attributes.spoofchk});
  if (attributes.trust) put_value(message, IFLA_VF_TRUST, ifla_vf_trust{vf, *attributes.trust});
  if (attributes.link_state)
    put_value(message, IFLA_VF_LINK_STATE, ifla_vf_link_state{vf, static_cast<std::uint32_t>(*attributes.link_state)});
  if (attributes.node_guid) put_value(message, IFLA_VF_IB_NODE_GUID, ifla_vf_guid{vf, *attributes.node_guid});
  if (attributes.port_guid) put_value(message, IFLA_VF_IB_PORT_GUID, ifla_vf_guid{vf, *attributes.port_guid});
}

}  // namespace

NetlinkMessage make_vf_query(unsigned pf) {
  NetlinkMessage message = make_netlink_message(RTM_GETLINK, 0, make_header(pf));
  put(message, IFLA_EXT_MASK, RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS);
  return message;
}

std::optional<VfAttributes> parse_vf(const nlmsghdr* message, unsigned vf) {
  const nlattr* list = nlmsg_find_attr(const_cast<nlmsghdr*>(message), sizeof(ifinfomsg), IFLA_VFINFO_LIST);
  if (list == nullptr) return std::nullopt;
  std::optional<VfAttributes> found;
  int left = nla_len(list);
  for (auto* info = static_cast<nlattr*>(nla_data(list)); nla_ok(info, left) && !found; info = nla_next(info, &left))
    found = parse_info(info, vf);
  return found;
}

NetlinkMessage make_vf_change(unsigned pf, unsigned vf, const VfAttributes& attributes) {
  NetlinkMessage message = make_netlink_message(RTM_SETLINK, 0, make_header(pf));
  nlattr* list = nla_nest_start(message.get(), IFLA_VFINFO_LIST);
  nlattr* info = nla_nest_start(message.get(), IFLA_VF_INFO);
  put_attributes(message, vf, attributes);
  nla_nest_end(message.get(), info);
  nla_nest_end(message.get(), list);
  return message;
}

}  // namespace berth
