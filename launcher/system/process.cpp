#include "launcher/system/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>

#include "launcher/system/fd.hpp"

// The header of glibc 2.36 does not say by itself that its functions are C.
extern "C" {
#include <sys/pidfd.h>
}

namespace berth {

namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

std::optional<int> parse_pid(std::string_view name) {
  int pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return pid;
}

/// The netns of one task; 0 if it has none (zombies) or is gone.
std::uint64_t read_netns(int proc, const std::string& task) {
  struct stat status {};
  return fstatat(proc, (task + "/ns/net").c_str(), &status, 0) == 0 ? status.st_ino : 0;
}

/// The distinct network namespaces of a process's threads.
std::vector<std::uint64_t> read_netns_of(int proc, const std::string& process) {
  std::vector<std::uint64_t> found;
  if (const std::uint64_t inode = read_netns(proc, process)) found.push_back(inode);
  struct stat status {};
  // "." and ".." and one directory per thread: the common single-threaded process needs no listing.
  if (fstatat(proc, (process + "/task").c_str(), &status, 0) != 0 || status.st_nlink <= 3) return found;
  UniqueFd fd(openat(proc, (process + "/task").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return found;
  const Directory tasks(fdopendir(fd.get()));
  if (!tasks) return found;
  const int tasks_fd = fd.release();
  while (const dirent* entry = readdir(tasks.get())) {
    if (!parse_pid(entry->d_name)) continue;
    const std::uint64_t inode = read_netns(tasks_fd, entry->d_name);
    if (inode != 0 && std::find(found.begin(), found.end(), inode) == found.end()) found.push_back(inode);
  }
  return found;
}

Directory open_proc() {
  Directory proc(opendir("/proc"));
  if (!proc) throw system_error(errno, "cannot read the processes", "opendir /proc");
  return proc;
}

bool is_in(int proc, int pid, std::uint64_t netns) {
  const auto found = read_netns_of(proc, std::to_string(pid));
  return std::find(found.begin(), found.end(), netns) != found.end();
}

/// Sends SIGKILL and hands back what becomes readable when the process has ended; nothing if it is not meant any more.
UniqueFd kill_if_in(int proc, int pid, std::uint64_t netns) {
  UniqueFd process(pidfd_open(pid, 0));
  // The pid may belong to somebody else by now: what the pidfd stands for is fixed, so look again after opening it.
  if (!process || !is_in(proc, pid, netns)) return {};
  if (pidfd_send_signal(process.get(), SIGKILL, nullptr, 0) != 0) return {};
  return process;
}

void wait_for_end(const std::vector<UniqueFd>& processes, std::chrono::steady_clock::time_point deadline) {
  std::vector<pollfd> waiting;
  for (const UniqueFd& process : processes) waiting.push_back({process.get(), POLLIN, 0});
  while (!waiting.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return;
    if (::poll(waiting.data(), waiting.size(), static_cast<int>(left)) < 0 && errno != EINTR) return;
    std::erase_if(waiting, [](const pollfd& entry) { return entry.revents != 0; });
  }
}

std::uint64_t read_stat_field(int pid, int number) {
  const std::string path = fmt::format("/proc/{}/stat", pid);
  const std::string text = read_file(AT_FDCWD, path);
  // The second field is the command in parentheses and may contain anything; count from its end.
  std::size_t position = text.rfind(')');
  for (int field = 2; field < number && position != std::string::npos; ++field) position = text.find(' ', position + 1);
  std::uint64_t value = 0;
  if (position == std::string::npos ||
      std::from_chars(text.data() + position + 1, text.data() + text.size(), value).ec != std::errc())
    throw Error(ErrorCode::host, fmt::format("cannot read '{}'", path), fmt::format("it has no field {}", number));
  return value;
}

}  // namespace

std::uint64_t read_start_time(int pid) {
  constexpr int kStartTime = 22;
  return read_stat_field(pid, kStartTime);
}

bool has_ended(int pid) { return read_netns(AT_FDCWD, fmt::format("/proc/{}", pid)) == 0; }

std::vector<int> read_ancestry(int pid) {
  constexpr int kParent = 4;
  std::vector<int> ancestry;
  try {
    for (int each = pid; each > 0; each = static_cast<int>(read_stat_field(each, kParent))) ancestry.push_back(each);
  } catch (const Error&) {  // it has ended meanwhile
  }
  return ancestry;
}

std::vector<std::string> read_command_line(int pid) {
  std::istringstream text(read_file(AT_FDCWD, fmt::format("/proc/{}/cmdline", pid), std::size_t{4} << 20));
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(text, argument, '\0');) arguments.push_back(std::move(argument));
  return arguments;
}

std::vector<int> find_processes(std::string_view name) {
  std::vector<int> found;
  const Directory proc(opendir("/proc"));
  while (const dirent* entry = proc ? readdir(proc.get()) : nullptr) {
    const auto pid = parse_pid(entry->d_name);
    if (!pid) continue;
    try {
      if (read_file(AT_FDCWD, fmt::format("/proc/{}/comm", *pid)) == fmt::format("{}\n", name)) found.push_back(*pid);
    } catch (const Error&) {  // it has ended meanwhile
    }
  }
  std::ranges::sort(found);
  return found;
}

std::vector<std::vector<int>> read_processes_in_each(const std::vector<std::uint64_t>& netns_inodes) {
  std::unordered_map<std::uint64_t, std::size_t> position;
  for (std::size_t i = 0; i < netns_inodes.size(); ++i) position.emplace(netns_inodes[i], i);
  std::vector<std::vector<int>> result(netns_inodes.size());
  const Directory proc = open_proc();
  while (const dirent* entry = readdir(proc.get())) {
    const auto pid = parse_pid(entry->d_name);
    if (!pid) continue;
    for (const std::uint64_t inode : read_netns_of(dirfd(proc.get()), entry->d_name))
      if (const auto found = position.find(inode); found != position.end()) result[found->second].push_back(*pid);
  }
  return result;
}

std::vector<std::vector<int>> kill_processes_in_each(const std::vector<std::uint64_t>& netns_inodes,
                                                     std::chrono::steady_clock::time_point deadline, int empty_passes) {
  // 0 stands for no netns, both here and in the list.
  const std::uint64_t of_init = read_netns(AT_FDCWD, "/proc/1");
  if (of_init != 0 && std::find(netns_inodes.begin(), netns_inodes.end(), of_init) != netns_inodes.end())
    throw Error(ErrorCode::internal, "cannot empty a network namespace", "it is that of process 1");
  // A process that forks while /proc is read can escape one pass by a child with a lower pid; hence two empty ones.
  for (;;) {
    auto found = read_processes_in_each(netns_inodes);
    if (std::all_of(found.begin(), found.end(), [](const auto& pids) { return pids.empty(); })) {
      if (++empty_passes == 2) return found;
      continue;
    }
    empty_passes = 0;
    if (std::chrono::steady_clock::now() >= deadline) return found;
    const Directory proc = open_proc();
    std::vector<UniqueFd> dying;
    bool only_self = true;
    for (std::size_t i = 0; i < found.size(); ++i)
      for (const int pid : found[i]) {
        if (pid == getpid()) continue;
        only_self = false;
        if (UniqueFd process = kill_if_in(dirfd(proc.get()), pid, netns_inodes[i])) dying.push_back(std::move(process));
      }
    if (only_self) return found;
    wait_for_end(dying, deadline);
  }
}

}  // namespace berth
