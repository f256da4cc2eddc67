// Processes as /proc shows them, and their end.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat). Throws Error{host} if there is no
/// such process.
std::uint64_t read_start_time(int pid);

/// Whether there is no such process any more, or only for its parent to hear of its end (a zombie). For root: to
/// others, processes that they may not look into seem to have ended.
bool has_ended(int pid);

/// The process, its parent, and so on up to the first of its pid namespace; as far as they still live.
std::vector<int> read_ancestry(int pid);

/// Its arguments, proc_pid_cmdline(5). Throws Error{host} if there is no such process, or more than 4 MiB of them.
std::vector<std::string> read_command_line(int pid);

/// The processes that are called `name` (/proc/PID/comm), by pid; none also if /proc cannot be read.
std::vector<int> find_processes(std::string_view name);

/// For each netns (by inode, see netns_inode()) the pids of processes of which at least one thread is in it. One pass
/// over /proc, however many are asked for. Zombies are in no namespace. Throws Error{host} if /proc cannot be read.
std::vector<std::vector<int>> read_processes_in_each(const std::vector<std::uint64_t>& netns_inodes);

/// Kills whatever is in these network namespaces, children born meanwhile included, and waits for the ends until
/// `deadline`. Returns who is left, as read_processes_in_each() does: nobody, unless a process hangs in the kernel. The
/// calling process is never killed, only reported. The caller keeps each netns open, so that its number stays its own.
/// Throws Error{internal} if one of them is that of process 1: nobody means to kill the whole machine.
std::vector<std::vector<int>> kill_processes_in_each(const std::vector<std::uint64_t>& netns_inodes,
                                                     std::chrono::steady_clock::time_point deadline,
                                                     int empty_passes = 0);

}  // namespace berth
