#include "launcher/core/vf_attributes.hpp"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

using nlohmann::json;

Error malformed(const std::string& key) {
  return {ErrorCode::host, "cannot read VF attributes", fmt::format("'{}' has a wrong value", key)};
}

template <typename Value>
Value require(std::optional<Value> value, const char* key) {
  if (!value) throw malformed(key);
  return *std::move(value);
}

template <typename Enum>
Enum parse_word(const json& word, const char* key, std::initializer_list<Enum> all) {
  for (const Enum value : all)
    if (word == to_string(value)) return value;
  throw malformed(key);
}

}  // namespace

std::string_view to_string(VlanProtocol protocol) { return protocol == VlanProtocol::dot1q ? "802.1Q" : "802.1ad"; }

std::string_view to_string(VfLinkState state) {
  switch (state) {
    case VfLinkState::automatic:
      return "auto";
    case VfLinkState::enable:
      return "enable";
    case VfLinkState::disable:
      return "disable";
  }
  return "?";
}

std::string guid_to_string(std::uint64_t guid) {
  return fmt::format("{:04x}:{:04x}:{:04x}:{:04x}", guid >> 48U, (guid >> 32U) & 0xffffU, (guid >> 16U) & 0xffffU,
                     guid & 0xffffU);
}

std::optional<std::uint64_t> parse_guid(std::string_view text) {
  constexpr std::size_t kGroup = 5;  // four digits and a colon
  if (text.size() != 4 * kGroup - 1) return std::nullopt;
  std::uint64_t guid = 0;
  for (std::size_t at = 0; at < text.size(); at += kGroup) {
    const char* end = text.data() + at + kGroup - 1;
    std::uint16_t group = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, end, group, 16);
    if (error != std::errc{} || stop != end) return std::nullopt;
    if (at + kGroup < text.size() && *end != ':') return std::nullopt;
    guid = (guid << 16U) | group;
  }
  return guid;
}

json to_json_value(const VfAttributes& attributes) {
  json object = json::object();
  if (const auto& vlan = attributes.vlan)
    object["vlan"] = {{"id", vlan->id}, {"qos", vlan->qos}, {"protocol", to_string(vlan->protocol)}};
  if (attributes.mac) object["mac"] = to_string(*attributes.mac);
  if (attributes.min_rate) object["min_rate"] = *attributes.min_rate;
  if (attributes.max_rate) object["max_rate"] = *attributes.max_rate;
  if (attributes.spoofchk) object["spoofchk"] = *attributes.spoofchk;
  if (attributes.trust) object["trust"] = *attributes.trust;
  if (attributes.link_state) object["link_state"] = to_string(*attributes.link_state);
  if (attributes.node_guid) object["node_guid"] = guid_to_string(*attributes.node_guid);
  if (attributes.port_guid) object["port_guid"] = guid_to_string(*attributes.port_guid);
  return object;
}

VfAttributes parse_vf_attributes(const json& value) {
  VfAttributes attributes;
  for (const auto& [key, field] : value.items()) {
    try {
      if (key == "vlan")
        attributes.vlan =
            VfVlan{field.at("id"), field.at("qos"),
                   parse_word(field.at("protocol"), "vlan.protocol", {VlanProtocol::dot1q, VlanProtocol::dot1ad})};
      else if (key == "mac")
        attributes.mac = require(parse_mac_address(field.get<std::string>()), "mac");
      else if (key == "min_rate")
        attributes.min_rate = field.get<unsigned>();
      else if (key == "max_rate")
        attributes.max_rate = field.get<unsigned>();
      else if (key == "spoofchk")
        attributes.spoofchk = field.get<bool>();
      else if (key == "trust")
        attributes.trust = field.get<bool>();
      else if (key == "link_state")
        attributes.link_state =
            parse_word(field, "link_state", {VfLinkState::automatic, VfLinkState::enable, VfLinkState::disable});
      else if (key == "node_guid")
        attributes.node_guid = require(parse_guid(field.get<std::string>()), "node_guid");
      else if (key == "port_guid")
        attributes.port_guid = require(parse_guid(field.get<std::string>()), "port_guid");
      else
        throw malformed(key);
    } catch (const json::exception&) {
      throw malformed(key);
    }
  }
  return attributes;
}

}  // namespace berth
