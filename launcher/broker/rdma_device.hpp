// The RDMA device of a berth: found on the host, ready in the berth, and what a rank gets of it. The callers hold the
// device's lock. All functions throw Error{host}, and do nothing where the pool's RDMA mode is off.
#pragma once

#include <optional>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/rdma_grant.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/rdma_messages.hpp"

namespace berth {

/// The RDMA devices on the host that belong to the berth's device (macvlan: to its parent); `netdev`: its name there.
std::vector<RdmaLink> find_rdma_on_host(const BerthSpec& berth, const std::string& netdev);

/// Fills the RDMA fields of `original`: the one RDMA device that belongs to the berth's device (macvlan: to its
/// parent), and its port. Throws if there is none, or more than one, or if a user's process still has it open.
void read_rdma_device(const BerthSpec& berth, OriginalState& original);

/// Waits until the port is active and every address of the berth has its GID: the kernel makes both by and by.
void wait_for_rdma(const LeaseRecord& record, const UniqueFd& netns);

/// Whether the berth can be leased as far as RDMA goes: the device is where it belongs, and no process of a user (or
/// one that is dying) has it open, unless others may use it, too.
bool is_rdma_ready(const LeaseRecord& record, const UniqueFd& netns);

/// What a rank of the berth is given: char devices as they are numbered now.
RdmaGrant make_rdma_grant(const LeaseRecord& record, const UniqueFd& netns);

}  // namespace berth
