// Network devices, RDMA devices and PCI functions of a node, from sysfs.
#pragma once

#include <string>

#include "launcher/core/inventory.hpp"

namespace berth {

/// The network devices of the calling thread's netns (sysfs shows those of the netns that it was mounted in) and all
/// PFs and VFs, read from `root`/sys; `root` is "/" or the directory of a captured node. `topology`, `held` and
/// `rdma_netns_mode` stay empty: they are not sysfs's to tell. A value that is missing, malformed or vanishing while
/// being read is unknown. Throws Error{host} if `root` is no directory.
Inventory read_inventory(const std::string& root, const std::string& host);

}  // namespace berth
