// Reading the policy file so that only root can have written what it says.
#pragma once

#include <string>

#include "launcher/core/policy.hpp"

namespace berth {

inline constexpr const char* kPolicyPath = "/etc/berth/policy.toml";

/// Reads and parses a policy file of at most 1 MiB. With `require_root_owner` (always, where privileges follow from it)
/// the file and every directory above it must belong to root and be writable by nobody else; the file that was checked
/// is the file that is read. No symlinks anywhere in the path. Throws Error{policy}.
Policy read_policy_file(const std::string& path, bool require_root_owner = true);

/// The same without parsing.
std::string read_policy_text(const std::string& path, bool require_root_owner = true);

}  // namespace berth
