// Counters of network devices, from /proc/PID/net/dev (proc_pid_net(5)). Unlike rtnetlink this takes no lock that
// others may hold for long (RTNL), needs no socket in the network namespace, and anybody may read it.
#pragma once

#include <optional>
#include <string>

#include "launcher/core/berth_counters.hpp"

namespace berth {

/// Of `interface` in the calling thread's netns; nullopt if there is none. Throws Error{host}.
std::optional<LinkCounters> read_link_counters(const std::string& interface);
/// Of `interface` in the netns of process `pid`; nullopt also if that has ended.
std::optional<LinkCounters> read_link_counters_of(int pid, const std::string& interface);

}  // namespace berth
