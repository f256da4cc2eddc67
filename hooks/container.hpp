// A container that a runtime is making, as the kernel shows it.
#pragma once

#include <string>

#include "hooks/container_state.hpp"
#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// The container's first process, which waits for its hooks.
struct ContainerProcess {
  UniqueFd process;  ///< pidfd
  UniqueFd netns;
  CpuSet cpus;  ///< what it may run on
};
/// Throws Error{host} if the process is gone, and Error{usage} if the container has no network namespace of its own
/// that belongs to the machine's root: the host's network, user namespaces, rootless runtimes.
ContainerProcess open_container(const ContainerState& state);

/// Makes the RDMA char devices in the /dev/infiniband of the container, whose file system is mounted but not yet its
/// root. Throws Error{usage} if the runtime's device rules would not let the container open them, and Error{host} if
/// they cannot be made.
void make_device_nodes(const ContainerState& state, const std::vector<RdmaNode>& nodes);

}  // namespace berth
