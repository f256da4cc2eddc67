// Waiting for what the kernel tells nobody.
#pragma once

#include <chrono>
#include <functional>

namespace berth {

/// Asks `is_so` at once, then after 1, 2, 4 … ms, at most 128 apart, and a last time when `patience` is over; says
/// whether it became true. What has an event (the end of a process by its pidfd, data, a lock) is never waited for like
/// this. What the kernel does by and by and tells nobody:
/// - it frees a socket (AF_PACKET, TCP that still says goodbye) after its last close, and a dead process's RDMA
/// objects;
/// - it takes an ended process out of its cgroup, which cannot be removed until then (cgroup.events of version 2 says
///   "populated 0", version 1 has no such file);
/// - it brings the devices of a dead netns home, and fills the table of GIDs of an RDMA port, from work queues;
/// - drivers of PFs refuse changes (EBUSY), or accept them and show them later, while a VF resets;
/// - it lets a process bind an abstract socket (unix(7)) that listens only later.
bool poll_until(std::chrono::milliseconds patience, const std::function<bool()>& is_so);

}  // namespace berth
