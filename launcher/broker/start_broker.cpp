#include "launcher/broker/start_broker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

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

void reset_signals() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void exec_broker(int broker, const BrokerProgram& program, int control, int listener) {
  // Up and out of the way first: either may be 3 or 4 already.
  const int high_control = fcntl(control, F_DUPFD_CLOEXEC, 10);
  const int high_listener = fcntl(listener, F_DUPFD_CLOEXEC, 10);
  const int high_broker = fcntl(broker, F_DUPFD_CLOEXEC, 10);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  dup2(high_control, 3);
  if (high_listener < 0 || dup2(high_listener, 4) < 0) close(4);
  dup2(high_broker, 5);
  fcntl(5, F_SETFD, FD_CLOEXEC);
  close_range(6, ~0U, 0);
  // The real user id is that of who started a setuid program, who could then end the broker.
  if (setgroups(0, nullptr) != 0 || setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0) _exit(kExitRefused);
  setsid();
  raise_limits();
  reset_signals();
  apply_widest_affinity();
  setpriority(PRIO_PROCESS, 0, 0);
  umask(022);
  if (chdir("/") != 0) _exit(kExitRefused);
  const char* const arguments[] = {"berth-broker", program.policy_path.c_str(), program.state_directory.c_str(),
                                   nullptr};
  const char* const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", nullptr};
  execveat(5, "", const_cast<char* const*>(arguments), const_cast<char* const*>(environment), AT_EMPTY_PATH);
  _exit(kExitRefused);
}

}  // namespace

UniqueFd start_broker(const BrokerProgram& program, const UniqueFd& listener) {
  const UniqueFd broker(open(program.path.c_str(), O_PATH | O_CLOEXEC));
  if (!broker)
    throw system_error(errno, "cannot start the broker", fmt::format("open {}", program.path),
                       "install Berth on this node, or correct broker= in plugstack.conf");
  auto [mine, its] = make_socket_pair();
  const pid_t child = fork();
  if (child < 0) throw system_error(errno, "cannot start the broker", "fork");
  if (child == 0) {
    // In a grandchild: slurmstepd waits for its children and must not meet the broker among them.
    if (fork() == 0) exec_broker(broker.get(), program, its.get(), listener.get());
    _exit(0);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
  return std::move(mine);
}

}  // namespace berth
