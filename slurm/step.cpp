#include "slurm/step.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>

#include "launcher/broker/protocol.hpp"
#include "launcher/broker/start_broker.hpp"
#include "launcher/broker/step_socket.hpp"
#include "launcher/core/environment.hpp"
#include "launcher/core/launch_context.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

namespace {

/// How long slurmstepd waits for the broker at the end; a berth that needs longer is finished by the broker alone.
constexpr int kFinishPatienceMilliseconds = 5000;

void say(const std::string& text) { slurm_spank_log("%s", text.c_str()); }

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
  control_ = berth::start_broker({site_.broker, site_.policy, site_.state}, listen_for_ranks(directory_));

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
    Entry entry;
    if (!request_entry(entry, connect_to_broker(directory_), {{"local_rank", local_task_}}, say)) throw broker_ended();
    entry_ = std::move(entry);
  } catch (const Error& error) {
    // Kept until task_init: slurmstepd complains to the user about a task that ends before it has let it go.
    failure_ = error;
    return;
  }
  try {
    enter_as_root(*entry_);
    prepare_drop_to_user();
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
    enter_as_user(*entry_, job_.uid, job_.gid, find_pmix_server(read_job_environment(spank)));
    set_environment(spank, entry_->grant);
    confirm_entry(*entry_);  // a command that is missing is missing for all ranks, and each says so by its exit code
    const auto arguments = read_arguments(spank);
    const auto path = read_job_environment(spank)["PATH"];
    if (!arguments.empty()) find_command(arguments.front(), path, exit_code);
    if (entry_->grant.verbose)
      say(fmt::format("berth: {}\nberth: rank {}: phases in ms: {}", entry_->grant.summary, job_.ranks[local_task_],
                      entry_->phases));
    entry_.reset();
  } catch (const Error& error) {
    fail_task(error, exit_code);
  }
}

void SlurmStep::end_task() {
  if (++ended_tasks_ < job_.local_tasks || !request_.stats || !control_) return;
  send_message(control_.get(), {{"report", true}});
  pollfd answered{control_.get(), POLLIN, 0};
  while (poll(&answered, 1, kFinishPatienceMilliseconds) < 0 && errno == EINTR) continue;
  if ((answered.revents & POLLIN) == 0) return;
  const auto answer = receive_message(control_.get());
  std::istringstream report(answer ? answer->body.value("report", "") : "");
  for (std::string line; std::getline(report, line);) say(line);
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
