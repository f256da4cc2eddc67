#include "launcher/broker/start_broker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <memory>

#include "launcher/core/error.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/records.hpp"

namespace berth {

namespace {

/// A user's limits came along by way of mpirun: with RLIMIT_FSIZE of 0 no lease could be written.
void raise_limits() {
  for (int resource = 0; resource < static_cast<int>(RLIM_NLIMITS); ++resource) {
    // The stack's size and core files are not a matter of getting work done.
    if (resource == RLIMIT_STACK || resource == RLIMIT_CORE) continue;
    const auto which = static_cast<__rlimit_resource_t>(resource);
    rlimit limit{};
    if (getrlimit(which, &limit) != 0) continue;
    const rlimit highest{limit.rlim_max, limit.rlim_max};
    // More than the kernel allows (fs.nr_open) or than CAP_SYS_RESOURCE would give is not to be had: then what there
    // is.
    if (const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY}; setrlimit(which, &unlimited) != 0)
      setrlimit(which, &highest);
  }
}

/// The broker's files are small, but need some room; else it would be killed without a word. Not every root may raise
/// limits.
void check_file_size_limit() {
  constexpr rlim_t kRoom = 4096;  // bytes
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_max >= kRoom) return;
  const rlimit raised{limit.rlim_cur, RLIM_INFINITY};
  const bool can_be_raised = setrlimit(RLIMIT_FSIZE, &raised) == 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0;
  if (!can_be_raised)
    throw Error(ErrorCode::host, "cannot start the broker",
                fmt::format("files may have {} bytes at most, and that limit cannot be raised", limit.rlim_max),
                "raise it before: ulimit -f unlimited");
}

void reset_signals() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

constexpr std::size_t kStackSize = std::size_t{64} << 10;

struct Start {
  const BrokerProgram& program;
  int broker;
  int control;
  int listener;
  std::byte* stack_of_broker;
};

/// A child that borrows this process's memory until it executes a program or ends, as posix_spawn() has it: copying the
/// page tables of slurmstepd, or of a rank, would take longer than all else here. Returns what clone() does.
pid_t start_borrower(int (*function)(void*), std::byte* stack, Start& start) {
  return clone(function, stack + kStackSize, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
}

/// Must leave no trace in memory, which is the starter's.
int exec_broker(void* argument) {
  const Start& start = *static_cast<const Start*>(argument);
  // Up and out of the way first: either may be 3 or 4 already.
  const int high_control = fcntl(start.control, F_DUPFD_CLOEXEC, 10);
  const int high_listener = fcntl(start.listener, F_DUPFD_CLOEXEC, 10);
  const int high_broker = fcntl(start.broker, F_DUPFD_CLOEXEC, 10);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  dup2(high_control, 3);
  if (high_listener < 0 || dup2(high_listener, 4) < 0) close(4);
  dup2(high_broker, 5);
  fcntl(5, F_SETFD, FD_CLOEXEC);
  close_range(6, ~0U, 0);
  // The real user id is that of who started a setuid program, who could then end the broker. Not by the C library's
  // functions, which would have the starter's threads change theirs.
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, 0, 0, 0) != 0 ||
      syscall(SYS_setresuid, 0, 0, 0) != 0)
    return kExitRefused;
  setsid();
  raise_limits();
  reset_signals();
  apply_widest_affinity();
  setpriority(PRIO_PROCESS, 0, 0);
  umask(022);
  if (chdir("/") != 0) return kExitRefused;
  const char* const arguments[] = {"berth-broker", start.program.policy_path.c_str(),
                                   start.program.state_directory.c_str(), nullptr};
  const char* const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", nullptr};
  execveat(5, "", const_cast<char* const*>(arguments), const_cast<char* const*>(environment), AT_EMPTY_PATH);
  return kExitRefused;
}

/// Between the two: slurmstepd waits for its children and must not meet the broker among them.
int start_grandchild(void* argument) {
  Start& start = *static_cast<Start*>(argument);
  return start_borrower(exec_broker, start.stack_of_broker, start) < 0 ? kExitRefused : 0;
}

}  // namespace

UniqueFd start_broker(const BrokerProgram& program, const UniqueFd& listener) {
  const UniqueFd broker(open(program.path.c_str(), O_PATH | O_CLOEXEC));
  if (!broker)
    throw system_error(errno, "cannot start the broker", fmt::format("open {}", program.path),
                       "install Berth on this node, or correct broker= in plugstack.conf");
  check_file_size_limit();
  auto [mine, its] = make_socket_pair();
  const auto stacks = std::make_unique_for_overwrite<std::byte[]>(2 * kStackSize);
  Start start{program, broker.get(), its.get(), listener.get(), stacks.get()};
  // A handler that runs in a borrower would run for this process.
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  const pid_t child = start_borrower(start_grandchild, stacks.get() + kStackSize, start);
  const int error_number = errno;
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  if (child < 0) throw system_error(error_number, "cannot start the broker", "clone");
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
  return std::move(mine);
}

}  // namespace berth
