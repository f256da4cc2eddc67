// Hardware addresses that Berth makes: the same whenever the same host makes them for the same device.
#pragma once

#include <cstdint>
#include <string_view>

#include "launcher/core/values.hpp"

namespace berth {

/// Locally administered, unicast.
MacAddress make_mac_address(std::string_view host, std::string_view device_id);

/// An EUI-64 with the local bit, for a node or a port.
std::uint64_t make_guid(std::string_view host, std::string_view device_id);

}  // namespace berth
