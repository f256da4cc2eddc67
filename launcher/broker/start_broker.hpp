// How a launcher's root process (slurmstepd, berth-enter, the OCI hook) starts the broker.
#pragma once

#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

struct BrokerProgram {
  std::string path;             ///< of berth-broker
  std::string policy_path;      ///< of the policy file
  std::string state_directory;  ///< of leases and parked devices
};

/// Starts the broker as a process of its own session whose parent is process 1, with nothing of the caller's: neither
/// environment, descriptors, working directory, signal settings, ids, umask nor resource limits. `listener` is where
/// the ranks will connect, and stays with the caller. Returns the control socket, on which a StepRecord is expected
/// first (protocol.hpp). Without a listener it is a container's broker, and expects a HoldRecord (hold.hpp). The caller
/// must be root. Throws Error{host}.
UniqueFd start_broker(const BrokerProgram& program, const UniqueFd& listener);

}  // namespace berth
