// Network devices, RDMA devices and PCI functions of a node, from sysfs.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "launcher/core/inventory.hpp"

namespace berth {

/// The speed of a link, and what was true of the link when it was read.
struct KnownSpeed {
  unsigned index = 0;  ///< ifindex
  LinkState link = LinkState::unknown;
  std::uint64_t carrier_changes = 0;  ///< how often its carrier had come or gone
  std::uint32_t mbps = 0;             ///< 0: unknown
  bool operator==(const KnownSpeed&) const = default;
};
using KnownSpeeds = std::map<std::string, KnownSpeed>;  // by netdev

/// The network devices of the calling thread's netns (sysfs shows those of the netns that it was mounted in) and all
/// PFs and VFs, read from `root`/sys; `root` is "/" or the directory of a captured node. `topology`, `held` and
/// `rdma_netns_mode` stay empty: they are not sysfs's to tell. A value that is missing, malformed or vanishing while
/// being read is unknown. Throws Error{host} if `root` is no directory.
///
/// To read a link's speed, the kernel takes its RTNL lock, which others may hold for long. So it is taken from `known`
/// where that is still true: a link gets another speed only while its carrier is away. (A bond that gains a member is
/// the exception; its speed is a weight in placement, and nothing else.) `known` becomes what is known now.
Inventory read_inventory(const std::string& root, const std::string& host, KnownSpeeds& known);

}  // namespace berth
