// What a rank sees of the host's RDMA devices: its own.
#pragma once

#include "launcher/core/rdma_grant.hpp"

namespace berth {

/// In the calling process's own mount namespace: /dev/infiniband becomes a directory with just the rank's nodes, and
/// where /sys/class/infiniband, infiniband_verbs and infiniband_mad show devices of others they are covered by
/// directories with the rank's. /sys has to be the fresh one of enter_rootfs() or enter_host_tree(). As root. Throws
/// Error{host}.
void apply_rdma_view(const std::vector<RdmaGrant>& grants);

}  // namespace berth
