// The RDMA device of a berth: found on the host, moved where the pool's mode says so, ready, and home again. The
// callers hold the device's lock. All functions throw Error{host}, and do nothing where the pool's RDMA mode is off.
#pragma once

#include <optional>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/rdma_grant.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// Fills the RDMA fields of `original`: the one RDMA device that belongs to the berth's device (macvlan: to its
/// parent), and its port. Throws if there is none, or more than one, or if a user's process still has it open.
void read_rdma_device(const BerthSpec& berth, OriginalState& original);

/// Mode exclusive: moves the device into the berth's netns. Before the netdev, which is the last to go, and after what
/// the PF sets: that may have bound the driver anew, and then `record` gets the name of the device that came with it.
void move_rdma_in(const Journal& journal, LeaseRecord& record, const UniqueFd& netns);

/// Waits until the port is active and every address of the berth has its GID: the kernel makes both by and by.
void wait_for_rdma(const LeaseRecord& record, const UniqueFd& netns);

/// Undoes move_rdma_in(), however far it got, and waits until the device is on the host. Before the netdev, so that a
/// later failure leaves a netns that nothing of the device is in.
void move_rdma_home(const Journal& journal, const LeaseRecord& record, const std::optional<UniqueFd>& netns);

/// Whether the berth can be leased as far as RDMA goes: the device is where it belongs, and no process of a user (or
/// one that is dying) has it open, unless others may use it, too.
bool is_rdma_ready(const LeaseRecord& record, const UniqueFd& netns);

/// What a rank of the berth is given: char devices as they are numbered now.
RdmaGrant make_rdma_grant(const LeaseRecord& record, const UniqueFd& netns);

}  // namespace berth
