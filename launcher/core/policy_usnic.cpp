#include "launcher/core/policy_usnic.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace berth {

std::vector<std::string> usnic_keys() { return {"vnic", "qps_per_rank"}; }

UsnicSettings parse_usnic(const PolicySection& section, PoolKind kind) {
  if (kind != PoolKind::usnic) {
    for (const std::string& key : usnic_keys())
      if (section.has(key))
        section.refuse(key, fmt::format("'{}' is about usNIC, and the pool's kind is \"{}\"", key, to_string(kind)),
                       "leave it out, or write kind = \"usnic\"");
    return {};
  }
  constexpr unsigned kMostQps = 4096;  // more than any vNIC has
  UsnicSettings usnic;
  usnic.vnic = section.choice("vnic", {Vnic::own, Vnic::shared}).value_or(usnic.vnic);
  usnic.qps_per_rank = static_cast<unsigned>(section.number("qps_per_rank", 1, kMostQps).value_or(usnic.qps_per_rank));
  if (usnic.vnic == Vnic::own && section.has("berths"))
    section.refuse("berths", "a rank gets a whole vNIC, so that each of the parents is one device",
                   "leave 'berths' out, or let ranks share: vnic = \"shared\"");
  return usnic;
}

void check_usnic_addresses(const PolicySection& section, const AddressPolicy& addresses) {
  const auto ipv4 = std::ranges::count(addresses.ranges, IpPrefix::Family::v4, &IpPrefix::family);
  if (addresses.inherit || ipv4 == 1) return;
  section.refuse("addresses",
                 ipv4 == 0 ? "usNIC works only with an IPv4 address" : "usNIC's driver keeps one IPv4 address",
                 "give one IPv4 range: addresses = [\"10.77.0.0/16\"]; or addresses = \"inherit\"");
}

}  // namespace berth
