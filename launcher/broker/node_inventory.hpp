// The node's devices and who holds them, without waiting for locks that others hold.
//
// Leases are always read before the devices: what is not held any more has come home, and is seen there. The other way
// round a device that comes home meanwhile would be in neither.
#pragma once

#include "launcher/broker/journal.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"

namespace berth {

/// What sysfs below `root` shows. Of this machine ("/") also what sysfs does not know; and link speeds that are known
/// from STATE/speeds.json are not read again as long as they hold (see read_inventory()), those that were read are kept
/// there if the journal can be written. `topology` and `held` stay empty. Throws Error{host}.
Inventory read_devices(const Journal& journal, const std::string& root, const std::string& host);

/// The same with `held`; for `check_locks` see Journal::held_devices().
Inventory read_node_inventory(const Journal& journal, const std::string& root, const std::string& host,
                              bool check_locks);

/// For whoever has the node lock and has read this machine's devices before: `held`, and the devices again if `policy`
/// has pools of which the host does not see what is in a berth.
void read_held(const Journal& journal, const Policy& policy, Inventory& inventory);

}  // namespace berth
