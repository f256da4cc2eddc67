// Cores and NUMA nodes, as hwloc sees them.
#pragma once

#include <string>

#include "launcher/core/inventory.hpp"

namespace berth {

/// The whole machine, whatever cpuset the caller is in; memory-only NUMA nodes have no CPUs. Throws Error{host}.
Topology read_topology();

/// The machine of an hwloc XML file (`lstopo node.xml`). Throws Error{host}.
Topology read_topology_file(const std::string& path);

}  // namespace berth
