// The table [[pool]] and what is inside it.
#pragma once

#include <string>
#include <vector>

#include "launcher/core/policy.hpp"
#include "launcher/core/policy_file.hpp"

namespace berth {

/// The names of all keys of a [[pool]].
std::vector<std::string> pool_keys();

/// Throws Error{policy}. That the pools fit each other is not looked at.
Pool parse_pool(PolicySection section);

/// The table [pool.vf].
VfPolicy parse_vf_policy(const PolicySection& section);

}  // namespace berth
