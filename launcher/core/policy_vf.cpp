// [pool.vf]
#include <fmt/core.h>

#include "launcher/core/policy_pool.hpp"

namespace berth {

namespace {

constexpr unsigned kFastestLink = 10'000'000;  // Mbit/s

bool parse_generate(const PolicySection& section, std::string_view key) {
  const auto word = section.string(key);
  if (word && word->text != "keep" && word->text != "generate") section.refuse_choice(*word, key, {"keep", "generate"});
  return word && word->text == "generate";
}

std::optional<VfVlan> parse_vlan(const PolicySection& section) {
  const auto id = section.number("vlan", 0, 4094);
  const auto qos = section.number("vlan_qos", 0, 7);
  const auto protocol = section.choice("vlan_protocol", {VlanProtocol::dot1q, VlanProtocol::dot1ad});
  for (const std::string_view key : {"vlan_qos", "vlan_protocol"})
    if (section.has(key) && id.value_or(0) == 0)
      section.refuse(key, fmt::format("'{}' is part of a VLAN tag, and there is no VLAN", key), "add vlan = 1 … 4094");
  if (!id) return std::nullopt;
  return VfVlan{static_cast<unsigned>(*id), static_cast<unsigned>(qos.value_or(0)),
                protocol.value_or(VlanProtocol::dot1q)};
}

std::optional<unsigned> parse_rate(const PolicySection& section, std::string_view key) {
  const auto rate = section.number(key, 0, kFastestLink);
  return rate ? std::optional(static_cast<unsigned>(*rate)) : std::nullopt;
}

}  // namespace

VfPolicy parse_vf_policy(const PolicySection& section) {
  VfPolicy vf;
  vf.generate_mac = parse_generate(section, "mac");
  vf.generate_guid = parse_generate(section, "guid");
  vf.attributes.vlan = parse_vlan(section);
  vf.attributes.min_rate = parse_rate(section, "min_rate");
  vf.attributes.max_rate = parse_rate(section, "max_rate");
  if (vf.attributes.max_rate.value_or(0) != 0 && vf.attributes.min_rate.value_or(0) > *vf.attributes.max_rate)
    section.refuse("min_rate", fmt::format("min_rate {} is larger than max_rate {}", *vf.attributes.min_rate,
                                           *vf.attributes.max_rate));
  vf.attributes.spoofchk = section.flag("spoofchk");
  vf.attributes.trust = section.flag("trust");
  vf.attributes.link_state =
      section.choice("link_state", {VfLinkState::automatic, VfLinkState::enable, VfLinkState::disable});
  return vf;
}

}  // namespace berth
