// A port of an RDMA device as sysfs shows it: its state, GIDs and data counters, for which there is no netlink.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// "4: ACTIVE"; empty if there is no such port. `sysfs`: a directory descriptor of /sys.
std::string read_rdma_port_state(int sysfs, const std::string& device, unsigned port);

/// Whether the port is native InfiniBand, whose GIDs belong to no netdev.
bool is_infiniband_port(int sysfs, const std::string& device, unsigned port);

/// Which of `addresses` has no GID that belongs to `netdev` yet; nullopt: all have one. Without addresses: whether the
/// netdev has any GID ("fe80::/10" stands for it).
std::optional<std::string> find_address_without_gid(int sysfs, const std::string& device, unsigned port,
                                                    const std::string& netdev, const std::vector<IpPrefix>& addresses);

/// What is missing before a usNIC can be used, whose one GID is made of the netdev's MAC and IPv4 address; nullopt:
/// nothing, the driver has taken note of both.
std::optional<std::string> find_usnic_gid_defect(int sysfs, const std::string& device, const MacAddress& mac,
                                                 const std::vector<IpPrefix>& addresses);

/// Where the table has the GID of `address` that belongs to `netdev`; where it is there for both versions of RoCE, the
/// one of version 2, which is routable. nullopt: nowhere.
std::optional<unsigned> find_gid_index(int sysfs, const std::string& device, unsigned port, const std::string& netdev,
                                       const IpPrefix& address);

/// What the port itself has counted, by the kernel's names: data (in units of four bytes), packets, errors. Only
/// hardware counts so; none where the driver does not. May ask the device's firmware for each.
std::map<std::string, std::uint64_t> read_rdma_port_counters(int sysfs, const std::string& device, unsigned port);

/// An address as a RoCE GID, in sysfs's form: eight groups of four hexadecimal digits.
std::string to_gid(const IpPrefix& address);

}  // namespace berth
