// What a VF has that only its PF can set.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/core/values.hpp"

namespace berth {

enum class VlanProtocol { dot1q, dot1ad };
enum class VfLinkState { automatic, enable, disable };
std::string_view to_string(VlanProtocol protocol);  ///< "802.1Q", "802.1ad"
std::string_view to_string(VfLinkState state);      ///< "auto", "enable", "disable"

struct VfVlan {
  unsigned id = 0;   ///< 0: untagged
  unsigned qos = 0;  ///< priority, 0..7
  VlanProtocol protocol = VlanProtocol::dot1q;
  bool operator==(const VfVlan&) const = default;
};

/// Those that are wanted, or those that the driver reports; empty fields are left alone, or not known.
struct VfAttributes {
  std::optional<VfVlan> vlan = {};
  std::optional<MacAddress> mac = {};     ///< administrative; zero: the VF chooses
  std::optional<unsigned> min_rate = {};  ///< Mbit/s; 0: none
  std::optional<unsigned> max_rate = {};  ///< Mbit/s; 0: none
  std::optional<bool> spoofchk = {};
  std::optional<bool> trust = {};
  std::optional<VfLinkState> link_state = {};
  std::optional<std::uint64_t> node_guid = {};  ///< InfiniBand
  std::optional<std::uint64_t> port_guid = {};
  bool operator==(const VfAttributes&) const = default;
};

/// An object with the fields that are there.
nlohmann::json to_json_value(const VfAttributes& attributes);
/// The inverse. Throws Error{host} naming the field that is wrong.
VfAttributes parse_vf_attributes(const nlohmann::json& value);

/// "0002:c903:0012:3456": four groups, as sysfs writes a GUID.
std::string guid_to_string(std::uint64_t guid);
std::optional<std::uint64_t> parse_guid(std::string_view text);

}  // namespace berth
