// Where the RDMA device of a VF is: on the host under its name, or in its berth. The callers hold the device's lock.
// All functions throw Error{host}, and do nothing where there is nothing to move.
#pragma once

#include <optional>

#include "launcher/broker/journal.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// Waits until the VF's RDMA device is on the host, and gives it its recorded name. The kernel brings the device of a
/// dead netns home by and by; and a driver that was bound anew makes another one, which may have another name.
void await_rdma(const LeaseRecord& record);

/// Mode exclusive: moves the device into the berth's netns. Before the netdev, which is the last to go, and after what
/// the PF sets.
void move_rdma_in(const LeaseRecord& record, const UniqueFd& netns);

/// Undoes move_rdma_in(), however far it got. Before the netdev, so that a later failure leaves a netns that nothing of
/// the device is in.
void move_rdma_home(const LeaseRecord& record, const std::optional<UniqueFd>& netns);

/// Mode exclusive: makes every descriptor of the device useless, wherever it is, by moving the device out of the berth
/// and in again. The kernel asks who somebody is only when a device is opened: who keeps it open, or gave it to a
/// process outside, would share it with the next user.
void cut_off_rdma_users(const LeaseRecord& record, const UniqueFd& netns);

}  // namespace berth
