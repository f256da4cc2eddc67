// berth run: one rank, in a berth of its own, from any launcher.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/launch_context.hpp"
#include "launcher/core/run_record.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/setuid_program.hpp"

namespace berth {
namespace {

constexpr const char* kEnterProgram = BERTH_LIBEXECDIR "/berth-enter";

struct RunOptions {
  std::string image;
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<std::string> command;
};

/// Why berth-enter would not have the rights that it needs; empty: it has them.
std::string find_obstacle() {
  if (geteuid() == 0 && access(kEnterProgram, X_OK) == 0) return {};
  if (std::string obstacle = find_setuid_obstacle(kEnterProgram); !obstacle.empty()) return obstacle;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
    return "this process must not gain privileges (no_new_privs, set by a container or by systemd)";
  return {};
}

void check_command(const RunOptions& run, const CLI::App& verb, bool after_dashes) {
  if (run.command.empty())
    throw Error(ErrorCode::usage, "cannot run a rank without a command",
                fmt::format("only the image '{}' was given", run.image),
                "write `berth run IMAGE COMMAND`; IMAGE may be `none`");
  if (after_dashes || !run.command.front().starts_with('-')) return;
  std::vector<std::string> known;
  for (const CLI::Option* option : verb.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  const std::string unknown = run.command.front().substr(0, run.command.front().find('='));
  const auto nearest = nearest_word(unknown, known);
  throw Error(ErrorCode::usage, "cannot understand the command line", fmt::format("there is no option '{}'", unknown),
              nearest ? fmt::format("did you mean '{}'?", *nearest)
                      : "`berth run --help` shows the options; write -- before a command that begins with '-'");
}

/// BERTH_POOL and the like stand for options that were not given, as with srun.
std::vector<std::pair<std::string, std::string>> merge_environment(
    const std::vector<std::pair<std::string, std::string>>& given) {
  std::vector<std::pair<std::string, std::string>> merged;
  for (const OptionSpec& spec : option_specs()) {
    const auto same_name = [&](const auto& option) { return option.first == spec.name; };
    const char* value = std::getenv(option_variable(spec.name).c_str());
    if (spec.name == "container" || value == nullptr || *value == '\0') continue;
    if (spec.argument.empty() && std::string_view(value) == "0") continue;
    if (std::none_of(given.begin(), given.end(), same_name)) merged.emplace_back(spec.name, value);
  }
  merged.insert(merged.end(), given.begin(), given.end());
  return merged;
}

/// A closed standard stream would be the next file that is opened, and the rank would write into it.
void open_missing_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
      throw system_error(errno, "cannot open /dev/null", "open");
}

UniqueFd make_sealed_file(std::string_view text) {
  UniqueFd file(memfd_create("berth-run", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  if (!file) throw system_error(errno, "cannot hand the command to berth-enter", "memfd_create");
  const auto former = signal(SIGXFSZ, SIG_IGN);  // under `ulimit -f` an error instead of a death without a word
  while (!text.empty()) {
    const ssize_t n = write(file.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      throw system_error(errno, "cannot hand the command to berth-enter", "write",
                         errno == EFBIG ? "raise the limit of file sizes: ulimit -f unlimited" : "");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  signal(SIGXFSZ, former);
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  // Neither a standard stream that happens to be closed, nor closed by the exec.
  UniqueFd kept(fcntl(file.get(), F_DUPFD, STDERR_FILENO + 1));
  if (fcntl(file.get(), F_ADD_SEALS, kSeals) != 0 || !kept)
    throw system_error(errno, "cannot hand the command to berth-enter", "fcntl");
  return kept;
}

/// Returns only where the rank could not be started: the exit code.
int run_rank(const RunOptions& run, bool verbose, const RunWithoutHelper& run_without_helper) {
  RunRecord record{.options = merge_environment(run.options), .command = run.command, .environment = {}};
  record.options.emplace_back("container", run.image);
  if (verbose) record.options.emplace_back("verbose", "1");
  for (char** variable = environ; *variable != nullptr; ++variable) record.environment.emplace_back(*variable);
  // What berth-enter would say, said before: there it would be one voice of many.
  Request request;
  for (const auto& [name, value] : record.options) apply_option(request, name, value);

  open_missing_streams();
  if (const std::string obstacle = find_obstacle(); !obstacle.empty()) return run_without_helper(record, obstacle);
  const UniqueFd file = make_sealed_file(make_run_record(record));
  const std::string number = std::to_string(file.get());
  const char* const arguments[] = {"berth-enter", number.c_str(), nullptr};
  // The environment travels in the record: the dynamic linker would take variables away from a setuid program.
  const char* const nothing[] = {nullptr};
  execve(kEnterProgram, const_cast<char* const*>(arguments), const_cast<char* const*>(nothing));
  throw system_error(errno, "cannot start berth-enter", fmt::format("execve {}", kEnterProgram));
}

}  // namespace

std::vector<std::string> split_command(std::vector<std::string>& arguments) {
  const auto verb = std::ranges::find_if(arguments, [](const std::string& word) { return !word.starts_with('-'); });
  const auto dashes = std::find(verb, arguments.end(), "--");
  if (verb == arguments.end() || *verb != "run" || dashes == arguments.end()) return {};
  std::vector<std::string> command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

void add_run_verb(CLI::App& app, GlobalOptions& options, const RunWithoutHelper& run_without_helper) {
  auto run = std::make_shared<RunOptions>();
  CLI::App* verb = app.add_subcommand("run", "run a command in a berth: own device, CPUs, network namespace, image");
  verb->fallthrough(false);
  verb->prefix_command();
  verb->add_option("image", run->image,
                   "SIF, squashfs or directory; `none` for device, CPUs and network namespace only")
      ->type_name("IMAGE")
      ->required();
  add_request_options(
      *verb, [run](const std::string& name, const std::string& value) { run->options.emplace_back(name, value); });
  verb->add_flag("-v,--verbose", options.verbose,
                 "say which device, CPUs and addresses each rank got, and how long it took");
  verb->footer(
      "Examples:\n"
      "  mpirun -n 8 berth run app.sif ./solver in.dat    every rank with a device and CPUs of its own\n"
      "  mpiexec -n 4 berth run --pool=fast app.sqsh ./a  MPICH; devices of the pool \"fast\"\n"
      "  mpirun -n 8 berth run none apptainer exec app.sif ./a\n"
      "                                                   another runtime inside the berth\n"
      "  berth run --onload=latency app.sqsh ./server     under the node's OpenOnload, with the profile \"latency\"\n"
      "  berth run app.sif bash                           one rank, in a shell\n"
      "Options come before or after IMAGE; the first word that is none begins the command.\n"
      "Each option is also a variable, as with srun: BERTH_POOL=fast.\n"
      "Where its helper berth-enter has no rights, ranks have the host's network and shared devices, and the image in "
      "a\n"
      "user namespace; --net=rank and other pools are refused then.\n"
      "Exit code: 125 if Berth refused, 126 and 127 as a shell's, else the command's own.");
  verb->callback([run, verb, &options, run_without_helper] {
    run->command = verb->remaining();
    // A command that has begun already has a `--` of its own.
    if (!run->command.empty() && !options.after_dashes.empty()) run->command.emplace_back("--");
    run->command.insert(run->command.end(), options.after_dashes.begin(), options.after_dashes.end());
    try {
      check_command(*run, *verb, !options.after_dashes.empty());
      options.exit_code = run_rank(*run, options.verbose, run_without_helper);
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.render());
      options.exit_code = kExitRefused;
    }
  });
}

}  // namespace berth
