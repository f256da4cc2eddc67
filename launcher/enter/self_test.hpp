// Trying the rank's RDMA device as the rank itself would, before its exec: a library that fails later says much less.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/rdma_grant.hpp"

namespace berth {

/// As the user, in the rank's namespaces: the node opens, the port is active, the netdev has link and addresses and a
/// GID for each, and memory can be locked up to `memlock` bytes. Throws Error{host} that names the step that failed.
void run_self_test(const RdmaGrant& grant, const std::optional<std::uint64_t>& memlock);

/// Likewise: each of Onload's `devices`, named below /dev, opens.
void run_onload_self_test(const std::vector<std::string>& devices);

}  // namespace berth
