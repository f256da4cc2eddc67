// The node's topology, discovered by hwloc once per boot and kept in the state directory.
#pragma once

#include "launcher/broker/journal.hpp"
#include "launcher/core/inventory.hpp"

namespace berth {

/// From STATE/topology.json where that is of this boot and names the CPUs that are online now; else hwloc's answer,
/// which is kept there if the caller may write it. A program of its own, berth-topology, asks hwloc, so that nobody
/// else has to load that. Throws Error{host}.
Topology read_node_topology(const Journal& journal);

}  // namespace berth
