// Cores and NUMA nodes, as hwloc sees them: without its plugins, and without regard to HWLOC_… variables, because root
// asks. Nobody else may change the environment meanwhile.
#pragma once

#include <string>

#include "launcher/core/inventory.hpp"

namespace berth {

/// The whole machine, whatever cpuset the caller is in; memory-only NUMA nodes have no CPUs. Throws Error{host}.
Topology read_topology();

/// The machine of an hwloc XML file (`lstopo node.xml`). Throws Error{host}.
Topology read_topology_file(const std::string& path);

/// The machine of an hwloc XML text; `source` names it in messages. Throws Error{host}.
Topology parse_topology_xml(const std::string& xml, const std::string& source);

/// The whole machine as hwloc XML, with caches and PCI devices. Throws Error{host}.
std::string read_topology_xml();

}  // namespace berth
