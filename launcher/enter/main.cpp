// berth, as users call it. It becomes a rank by itself: finds or starts the broker, enters the berth that the broker
// gives to this rank, gives up everything, and *becomes* the rank: same process, so that signals, exit codes and
// debuggers work as without Berth. For that an administrator makes it setuid root, under the name of berth-enter; one
// program instead of a setuid helper beside it, because starting a program is most of what a rank costs. All other
// verbs, command lines that want CLI11, and ranks where it has no rights are for the program with all verbs, which it
// executes as the user.
//
// Everything in arguments and environment is the user's word; who the user is, is the kernel's.
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <string_view>

#include "launcher/broker/journal.hpp"
#include "launcher/broker/start_broker.hpp"
#include "launcher/broker/step_socket.hpp"
#include "launcher/enter/enter.hpp"
#include "launcher/enter/rank_process.hpp"
#include "launcher/enter/run_call.hpp"
#include "launcher/system/cgroup.hpp"
#include "launcher/system/host_name.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/privileges.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/program.hpp"

namespace berth {
namespace {

constexpr const char* kAllVerbs = BERTH_LIBEXECDIR "/berth";

/// A broker that takes no more ranks when this one comes is replaced by a new one; this often is no coincidence.
constexpr int kMostBrokers = 8;

void say(const std::string& text) { fmt::print(stderr, "{}\n", text); }

/// Whether the kernel gave this process rights that its user does not have: by the setuid bit or file capabilities.
bool has_more_rights_than_user() { return getauxval(AT_SECURE) != 0; }

Error lacks_rights() {
  return {ErrorCode::host, "cannot give you a device",
          "berth-enter has not got the rights that it needs: it is not installed with them, or a debugger or a user "
          "namespace keeps them from it",
          "administrator: chown root and chmod u+s berth-enter, on a file system without nosuid"};
}

/// Until it is clear what is to be done, nothing is done with more rights than the user's.
void act_as_user() {
  if (has_more_rights_than_user() && setresuid(static_cast<uid_t>(-1), getuid(), static_cast<uid_t>(-1)) != 0)
    throw system_error(errno, "cannot run this program", "setresuid");
}

/// The real user id stays the caller's, who may so end this process as long as it waits; it does nothing that the
/// kernel would not undo. With file capabilities instead of the setuid bit, this is where it becomes root.
void become_root() {
  if (setresuid(static_cast<uid_t>(-1), 0, 0) != 0 || setresgid(static_cast<gid_t>(-1), 0, 0) != 0)
    throw lacks_rights();
}

/// Of capabilities that the user had without this program, the kernel left none.
void give_up_rights() {
  if (!has_more_rights_than_user()) return;
  const gid_t group = getgid();
  const uid_t user = getuid();
  if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
    throw system_error(errno, "cannot run this program", "setresuid");
  clear_capabilities();
}

[[noreturn]] void run_all_verbs(char** argv, const std::vector<std::string>& variables) {
  give_up_rights();
  execve(kAllVerbs, argv, pointers_to(variables).data());
  throw system_error(errno, "cannot start berth", fmt::format("execve {}", kAllVerbs), "install Berth on this node");
}

StepRecord make_step_record(const Credentials& user, const RunCall& call) {
  StepRecord step{.job = 0,
                  .step = 0,
                  .launcher_pid = call.context.launcher.empty() ? getpid() : getppid(),
                  .uid = user.uid,
                  .gid = user.gid,
                  .groups = user.groups,
                  .slurm_conf = {},
                  .node = {},
                  .runtime_directories = {},
                  .ranks = {},
                  .awaited_ranks = call.context.local_size,
                  .request = call.request};
  if (const auto job = read_slurm_step_of(getpid())) {
    step.job = job->job;
    step.step = job->step;
    step.node = job->node;
  }
  if (step.node.empty()) step.node = read_host_name();
  step.session_directories = find_session_directories(call.environment);
  return step;
}

void enter_step(const Credentials& user, const RunCall& call, Entry& entry) {
  const std::string directory = run_directory(kStateDirectory, user.uid, digest_run(user, call));
  const BrokerProgram program{BERTH_LIBEXECDIR "/berth-broker", kPolicyPath, kStateDirectory};
  for (int attempt = 0; attempt < kMostBrokers; ++attempt) {
    UniqueFd broker = connect_or_start_broker(directory, [&](const UniqueFd& listener) {
      const UniqueFd control = start_broker(program, listener);
      send_message(control.get(), to_json_value(make_step_record(user, call)));
    });
    if (request_entry(entry, std::move(broker), {{"local_rank", call.context.local_rank}, {"rank", call.context.rank}},
                      say, call.request.stats ? std::vector{STDERR_FILENO} : std::vector<int>{}))
      return;
  }
  throw broker_ended();
}

void become_rank(RunCall call, Entry& entry, int& exit_code) {
  open_missing_streams();
  close_inherited(call.context.pmi_fd);
  const Credentials user = read_credentials();
  become_root();
  const mode_t umask_of_user = umask(022);

  enter_step(user, call, entry);
  enter_as_root(entry);
  drop_to_user(user);
  umask(umask_of_user);
  settle(entry, call.context.pmix_uri);
  apply_environment(call.environment, entry.grant.environment);
  confirm_entry(entry);
  if (entry.grant.verbose)
    say(fmt::format("berth: {}\nberth: rank {}: phases in ms: {}", entry.grant.summary, call.context.rank,
                    entry.phases));
  exec_command(call.command, call.environment, exit_code);
}

void run(int argc, char** argv, Entry& entry, int& exit_code) {
  const bool may_become_root = geteuid() == 0 || has_more_rights_than_user();
  act_as_user();
  const std::vector<std::string> variables = read_initial_environment(argc, argv);
  clearenv();
  const std::vector<std::string> words(argv + 1, argv + argc);
  const bool is_run = !words.empty() && words.front() == "run";
  const auto arguments = is_run ? parse_plain_arguments(std::span(words).subspan(1)) : std::nullopt;
  if (may_become_root && arguments)
    return become_rank(make_run_call(*arguments, parse_environment(variables)), entry, exit_code);
  // It came from there, so there is no way back.
  if (std::string_view(argv[0]) == kEnterByBerth) throw lacks_rights();
  run_all_verbs(argv, variables);
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) {
  int exit_code = berth::kExitRefused;
  berth::Entry entry;
  try {
    berth::run(argc, argv, entry, exit_code);
  } catch (const berth::Error& error) {
    if (!entry.heard) berth::say(error.render());
  } catch (const std::exception& error) {
    berth::say(fmt::format("berth: internal error: {}", error.what()));
  }
  return exit_code;
}
