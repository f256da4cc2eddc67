#include "slurm/step.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "launcher/broker/protocol.hpp"
#include "launcher/broker/step_socket.hpp"
#include "launcher/core/environment.hpp"
#include "launcher/system/affinity.hpp"

namespace berth {

namespace {

/// How long slurmstepd waits for the broker at the end; a berth that needs longer is finished by the broker alone.
constexpr int kFinishPatienceMilliseconds = 5000;

void say(const std::string& text) { slurm_spank_log("%s", text.c_str()); }

/// In a grandchild of slurmstepd, which waits for its children and must not meet the broker among them.
[[noreturn]] void exec_broker(int broker, const SiteOptions& site, int control, int listener) {
  // Up and out of the way first: either may be 3 or 4 already.
  const int high_control = fcntl(control, F_DUPFD_CLOEXEC, 10);
  const int high_listener = fcntl(listener, F_DUPFD_CLOEXEC, 10);
  const int high_broker = fcntl(broker, F_DUPFD_CLOEXEC, 10);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  dup2(high_control, 3);
  dup2(high_listener, 4);
  dup2(high_broker, 5);
  fcntl(5, F_SETFD, FD_CLOEXEC);
  close_range(6, ~0U, 0);
  setsid();
  if (chdir("/") != 0) _exit(kExitRefused);
  const char* const arguments[] = {"berth-broker", site.policy.c_str(), site.state.c_str(), nullptr};
  const char* const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", nullptr};
  execveat(5, "", const_cast<char* const*>(arguments), const_cast<char* const*>(environment), AT_EMPTY_PATH);
  _exit(kExitRefused);
}

}  // namespace

void SlurmStep::start(spank_t spank) {
  try {
    start_broker(spank);
  } catch (const Error& error) {
    failure_ = error;
  }
}

void SlurmStep::start_broker(spank_t spank) {
  job_ = read_spank_job(spank);
  directory_ = step_directory(site_.state, job_.job, job_.step);
  const UniqueFd broker(open(site_.broker.c_str(), O_PATH | O_CLOEXEC));
  if (!broker)
    throw system_error(errno, "cannot start the broker", fmt::format("open {}", site_.broker),
                       "install Berth on this node, or correct broker= in plugstack.conf");
  const UniqueFd listener = listen_for_ranks(directory_);
  auto [mine, its] = make_socket_pair();
  const pid_t child = fork();
  if (child < 0) throw system_error(errno, "cannot start the broker", "fork");
  if (child == 0) {
    if (fork() == 0) exec_broker(broker.get(), site_, its.get(), listener.get());
    _exit(0);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
  control_ = std::move(mine);

  StepRecord record{.job = job_.job,
                    .step = job_.step,
                    .uid = job_.uid,
                    .gid = job_.gid,
                    .groups = job_.groups,
                    .slurm_conf = {},
                    .node = read_node_name(),
                    .runtime_directories = {},
                    .ranks = job_.ranks,
                    .request = request_};
  record.runtime_directories = pmix_directories(job_, record.node);
  if (const char* conf = std::getenv("SLURM_CONF")) record.slurm_conf = conf;
  send_message(control_.get(), to_json_value(record));
}

void SlurmStep::announce_task(spank_t spank) {
  if (failure_) return;
  try {
    const int pid = read_task_pid(spank);
    send_message(control_.get(), to_json_value(RankRecord{read_local_task(spank), pid, read_affinity(pid)}));
  } catch (const Error& error) {
    failure_ = error;
    control_.reset();  // the broker ends, and with it the answer that the tasks wait for
  }
}

void SlurmStep::fail_task(const Error& error, int exit_code) {
  // One voice per node is enough where all ranks fail for the same reason: refused, or no such command.
  const bool common = !entry_ || exit_code != kExitRefused;
  if (local_task_ == 0 || !common) say(error.render());
  _exit(exit_code);
}

void SlurmStep::enter_privileged(spank_t spank) {
  control_.reset();  // slurmstepd's end of the broker: here it would keep the step alive
  try {
    local_task_ = read_local_task(spank);
    if (failure_) throw Error(*failure_);
    entry_ = request_entry(directory_, local_task_, say);
  } catch (const Error& error) {
    // Kept until task_init: slurmstepd complains to the user about a task that ends before it has let it go.
    failure_ = error;
    return;
  }
  try {
    enter_as_root(*entry_);
  } catch (const Error& error) {
    fail_task(error, kExitRefused);
  }
}

void SlurmStep::set_environment(spank_t spank, const Grant& grant) {
  for (const EnvironmentChange& change : resolve_environment(read_job_environment(spank), grant.environment)) {
    if (change.action == EnvironmentChange::Action::unset) {
      spank_unsetenv(spank, change.name.c_str());
    } else {
      spank_setenv(spank, change.name.c_str(), change.value.c_str(), 1);
    }
  }
}

void SlurmStep::enter_unprivileged(spank_t spank) {
  if (failure_) fail_task(*failure_, kExitRefused);
  int exit_code = kExitRefused;
  try {
    const auto variable = [environment = read_job_environment(spank)](const char* name) {
      const auto found = environment.find(name);
      return found != environment.end() ? found->second : std::string();
    };
    enter_as_user(*entry_, job_.uid, job_.gid, variable("PMIX_SERVER_URI2"));
    set_environment(spank, entry_->grant);
    confirm_entry(*entry_);  // a command that is missing is missing for all ranks, and each says so by its exit code
    const auto arguments = read_arguments(spank);
    const auto path = read_job_environment(spank)["PATH"];
    if (!arguments.empty()) check_command(arguments.front(), path, exit_code);
    if (entry_->grant.verbose)
      say(fmt::format("berth: {}\nberth: rank {}: phases in ms: {}", entry_->grant.summary, job_.ranks[local_task_],
                      entry_->phases));
    entry_.reset();
  } catch (const Error& error) {
    fail_task(error, exit_code);
  }
}

void SlurmStep::finish() {
  if (!control_) return;
  shutdown(control_.get(), SHUT_WR);
  pollfd wait{control_.get(), POLLIN, 0};
  while (poll(&wait, 1, kFinishPatienceMilliseconds) < 0 && errno == EINTR) continue;
  control_.reset();
  remove_step_directory(directory_);
}

}  // namespace berth
