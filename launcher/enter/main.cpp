// berth-enter: the setuid half of `berth run`. It finds or starts the broker, enters the berth that the broker gives to
// this rank, gives up everything, and *becomes* the rank: same process, so that signals, exit codes and debuggers work
// as without Berth. `berth run` starts it with one argument, the number of a sealed memfd with a RunRecord, and an
// empty environment. Everything in that record is the user's word; who the user is, is the kernel's.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "launcher/broker/journal.hpp"
#include "launcher/broker/start_broker.hpp"
#include "launcher/broker/step_socket.hpp"
#include "launcher/core/launch_context.hpp"
#include "launcher/core/run_record.hpp"
#include "launcher/enter/enter.hpp"
#include "launcher/enter/rank_process.hpp"
#include "launcher/system/cgroup.hpp"
#include "launcher/system/host_name.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/privileges.hpp"
#include "launcher/system/process.hpp"

namespace berth {
namespace {

/// A broker that takes no more ranks when this one comes is replaced by a new one; this often is no coincidence.
constexpr int kMostBrokers = 8;

void say(const std::string& text) { fmt::print(stderr, "{}\n", text); }

[[noreturn]] void refuse_call(const std::string& why) {
  throw Error(ErrorCode::usage, "cannot run this program by itself", why, "use `berth run IMAGE COMMAND`");
}

/// Sealed, so that it has an end and nobody changes it while it is read.
RunRecord read_run_record(int fd) {
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  struct stat status {};
  const int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
    refuse_call("it is a part of `berth run`, which hands it a sealed record");
  if (status.st_size > static_cast<off_t>(kLongestRunRecord)) refuse_call("its record is too long");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = pread(fd, text.data() + at, text.size() - at, static_cast<off_t>(at));
    if (n <= 0) refuse_call("its record cannot be read");
    at += static_cast<std::size_t>(n);
  }
  return parse_run_record(text);
}

/// The real user id stays the caller's, who may so end this process as long as it waits; it does nothing that the
/// kernel would not undo. With file capabilities instead of the setuid bit, this is where it becomes root.
void become_root() {
  if (setresuid(static_cast<uid_t>(-1), 0, 0) != 0 || setresgid(static_cast<gid_t>(-1), 0, 0) != 0)
    throw Error(ErrorCode::host, "cannot give you a device",
                "berth-enter is not installed with the rights that it needs",
                "administrator: chown root and chmod u+s berth-enter, on a file system without nosuid");
}

StepRecord make_step_record(const Credentials& user, const LaunchContext& context, const Request& request,
                            const std::map<std::string, std::string>& environment) {
  StepRecord step{.job = 0,
                  .step = 0,
                  .launcher_pid = context.launcher.empty() ? getpid() : getppid(),
                  .uid = user.uid,
                  .gid = user.gid,
                  .groups = user.groups,
                  .slurm_conf = {},
                  .node = {},
                  .runtime_directories = {},
                  .ranks = {},
                  .awaited_ranks = context.local_size,
                  .request = request};
  if (const auto job = read_slurm_step_of(getpid())) {
    step.job = job->job;
    step.step = job->step;
    step.node = job->node;
  }
  if (step.node.empty()) step.node = read_host_name();
  step.session_directories = find_session_directories(environment);
  return step;
}

Entry enter_step(const Credentials& user, const LaunchContext& context, const RunRecord& record, const Request& request,
                 const std::map<std::string, std::string>& environment, bool& heard) {
  const std::string directory = run_directory(kStateDirectory, user.uid, digest_run(user, context, record));
  const BrokerProgram program{BERTH_LIBEXECDIR "/berth-broker", kPolicyPath, kStateDirectory};
  for (int attempt = 0; attempt < kMostBrokers; ++attempt) {
    UniqueFd broker = connect_or_start_broker(directory, [&](const UniqueFd& listener) {
      const UniqueFd control = start_broker(program, listener);
      send_message(control.get(), to_json_value(make_step_record(user, context, request, environment)));
    });
    auto entry = request_entry(std::move(broker), {{"local_rank", context.local_rank}, {"rank", context.rank}}, say,
                               heard, request.stats ? std::vector{STDERR_FILENO} : std::vector<int>{});
    if (entry) return std::move(*entry);
  }
  throw broker_ended();
}

void run(int record_fd, int& exit_code, bool& heard) {
  const RunRecord record = read_run_record(record_fd);
  auto environment = parse_environment(record.environment);
  const LaunchContext context = parse_launch_context(environment);
  Request request;
  for (const auto& [name, value] : record.options) apply_option(request, name, value);
  close_inherited(context.pmi_fd);
  const Credentials user = read_credentials();
  become_root();
  const mode_t umask_of_user = umask(022);

  Entry entry = enter_step(user, context, record, request, environment, heard);
  enter_as_root(entry);
  drop_to_user(user);
  umask(umask_of_user);
  settle(entry, context.pmix_uri);
  apply_environment(environment, entry.grant.environment);
  confirm_entry(entry);
  if (entry.grant.verbose)
    say(fmt::format("berth: {}\nberth: rank {}: phases in ms: {}", entry.grant.summary, context.rank, entry.phases));
  exec_command(record.command, environment, exit_code);
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) {
  int exit_code = berth::kExitRefused;
  bool heard = false;  // by the user, from another rank
  try {
    clearenv();
    berth::run(argc == 2 ? berth::parse_descriptor(argv[1]) : -1, exit_code, heard);
  } catch (const berth::Error& error) {
    if (!heard) berth::say(error.render());
  } catch (const std::exception& error) {
    berth::say(fmt::format("berth: internal error: {}", error.what()));
  }
  return exit_code;
}
