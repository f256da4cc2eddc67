// What [[pool]] says of usNIC.
#pragma once

#include <string>
#include <vector>

#include "launcher/core/policy.hpp"
#include "launcher/core/policy_file.hpp"

namespace berth {

std::vector<std::string> usnic_keys();

/// Throws Error{policy} for keys that a pool of `kind` cannot have.
UsnicSettings parse_usnic(const PolicySection& section, PoolKind kind);

/// A whole vNIC has one IPv4 address: the driver keeps no second, and does nothing without. Throws Error{policy}.
void check_usnic_addresses(const PolicySection& section, const AddressPolicy& addresses);

}  // namespace berth
