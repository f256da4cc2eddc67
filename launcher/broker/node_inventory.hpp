// The node's devices, without waiting for locks that others hold.
#pragma once

#include "launcher/broker/journal.hpp"
#include "launcher/core/inventory.hpp"

namespace berth {

/// What sysfs below `root` shows, and the netns mode of RDMA devices. Link speeds that are known from STATE/speeds.json
/// are not read again as long as they hold (see read_inventory()); what was read is kept there if the caller may write
/// it. `topology` and `held` stay empty. Throws Error{host}.
Inventory read_node_inventory(const Journal& journal, const std::string& root, const std::string& host);

/// What sysfs does not say of the usNIC devices of the node that this process runs on: netmasks, and whose children the
/// processes are that have QPs. Throws Error{host}.
void complete_usnic_devices(Inventory& inventory);

}  // namespace berth
