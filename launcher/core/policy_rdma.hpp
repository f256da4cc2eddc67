// The RDMA keys of a [[pool]].
#pragma once

#include "launcher/core/policy.hpp"
#include "launcher/core/policy_file.hpp"

namespace berth {

/// The names of the keys that parse_rdma() reads.
std::vector<std::string> rdma_keys();

/// What `section`, a [[pool]] of this kind, says about RDMA. Throws Error{policy} for modes that the kind cannot have
/// and for settings without a mode.
RdmaSettings parse_rdma(const PolicySection& section, PoolKind kind);

}  // namespace berth
