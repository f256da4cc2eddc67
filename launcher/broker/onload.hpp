// OpenOnload of the host for the ranks of a step: what is there, whether its parts fit together, and what of it the
// ranks get.
#pragma once

#include <string>
#include <vector>

#include "launcher/broker/protocol.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/image/device_tree.hpp"

namespace berth {

struct Onload {
  std::string version;                      ///< of library and module, "Onload 9.0.2.140"
  std::vector<DeviceNode> devices;          ///< for the ranks' /dev, as the host's owner and mode say
  std::vector<MountRequest> mounts;         ///< of the host's libraries, command and profiles, read-only; images only
  std::string library;                      ///< for LD_PRELOAD, as the ranks see it
  std::string search_path;                  ///< for LD_LIBRARY_PATH; empty: not needed
  std::vector<EnvironmentChange> settings;  ///< of the profiles
};

/// Reads the running kernel and the host's files. `in_image`: the ranks do not see the host's own tree. Throws Error:
/// policy (not allowed), host (module, device nodes, library or command missing; different builds; a profile that is no
/// plain list of settings), usage (no such profile).
Onload read_onload(const Policy& policy, const std::vector<std::string>& profiles, bool in_image);

/// Puts into a rank's grant what of Onload is not part of its root file system.
void grant_onload(Grant& grant, const Onload& onload, const OnloadPolicy& policy);

/// Names of the profiles that there are, whether Berth can use them or not.
std::vector<std::string> list_onload_profiles(const OnloadPolicy& policy);

}  // namespace berth
