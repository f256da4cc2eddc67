// Cisco usNIC devices, from sysfs: /sys/class/infiniband/usnic_N and the uverbs device that says it belongs to it.
#pragma once

#include <vector>

#include "launcher/core/usnic.hpp"
#include "launcher/system/root_dir.hpp"

namespace berth {

/// Every usNIC device, with a note in `defects` for each attribute that is missing, empty, unreadable or malformed.
/// Prefix lengths of addresses, and whose children processes are, is not sysfs's to tell. A device's port state is told
/// under the kernel's RTNL lock (drivers/infiniband/hw/usnic/usnic_ib_verbs.c).
std::vector<UsnicDevice> read_usnic_devices(const RootDir& root);

}  // namespace berth
