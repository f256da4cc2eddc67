// Addresses of berths from node number and device index: unique in the cluster without asking anybody.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/policy.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// Expands a Slurm hostlist, "n[001-003,7],login1", in order. Throws Error{policy} on bad syntax or over 65,536 names.
std::vector<std::string> expand_hostlist(std::string_view hostlist);

/// Position of `host` in `hostlist` (from 0); a fully qualified `host` also matches by its first label.
std::optional<unsigned> node_number(std::string_view hostlist, std::string_view host);

/// How many addresses `range` has for hosts: numbers 1 to this one. UINT64_MAX if it is that or more.
std::uint64_t host_capacity(const IpPrefix& range);

/// Whether `address` lies in the network `range`.
bool covers(const IpPrefix& range, const IpPrefix& address);

/// The bits of `address` below a network prefix of `prefix_length` bits; UINT64_MAX if it is that or more.
std::uint64_t host_number(const IpPrefix& address, unsigned prefix_length);

/// How many of them devices can have: those before the first of `gateways` that lies in `range`.
std::uint64_t device_capacity(const IpPrefix& range, const std::vector<IpPrefix>& gateways);

/// The addresses of device `device_index` (from 0) on `host`, one per range of `policy`. The host part is
/// node_number × devices_per_node + device_index + 1. Throws Error{policy} if `host` is not listed or a range is too
/// small. Ranges are taken as networks: bits below the prefix are ignored.
std::vector<IpPrefix> choose_addresses(const AddressPolicy& policy, std::string_view host, unsigned device_index,
                                       unsigned devices_per_node);

}  // namespace berth
