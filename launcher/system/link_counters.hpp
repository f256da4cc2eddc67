// Counters of network devices, from /proc/PID/net/dev (proc_pid_net(5)). Unlike rtnetlink this takes no lock that
// others may hold for long (RTNL), needs no socket in the network namespace, and anybody may read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/core/berth_counters.hpp"

namespace berth {

/// Of `interface` in the calling thread's netns; nullopt if there is none. Throws Error{host}.
std::optional<LinkCounters> read_link_counters(const std::string& interface);

/// All of them in the netns of process `pid`, for parse_link_counters(); nullopt if that process has ended, or if its
/// netns is not the one with the number `netns`.
std::optional<std::string> read_link_table_of(int pid, std::uint64_t netns);

}  // namespace berth
