// A minimal /dev: nodes for harmless devices and those that the policy lists; terminals and shared memory are the
// host's.
#pragma once

#include <string>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {

/// What goes into the rank's /dev, read from the host's.
struct DeviceNode {
  std::string path;  ///< relative to /dev
  unsigned mode = 0;
  unsigned uid = 0;
  unsigned gid = 0;
  std::uint64_t number = 0;  ///< dev_t
};

/// The basic devices, and those matching `patterns` (shell patterns below /dev; a directory stands for the char devices
/// in it). Only char devices. Throws Error{host} if a basic one is missing.
std::vector<DeviceNode> read_device_nodes(const std::vector<std::string>& patterns);

/// A detached tmpfs with `nodes`, the usual symlinks and empty directories pts, shm and mqueue for the host's own;
/// infiniband for what each rank mounts there. For root, with a umask of 0.
UniqueFd create_device_tree(const std::vector<DeviceNode>& nodes, bool with_mqueue);

}  // namespace berth
