// Who a network device is, for processes that must not load a netlink library: those that become ranks.
#pragma once

#include <string>
#include <vector>

#include "launcher/core/values.hpp"

namespace berth {

struct LinkAddresses {
  MacAddress mac{};  ///< zero if the hardware address does not have six bytes
  std::vector<IpPrefix> addresses;
};
/// Of device `name` in the calling thread's netns, by getifaddrs(3); empty if there is none. Throws Error{host}.
LinkAddresses read_link_addresses(const std::string& name);

}  // namespace berth
