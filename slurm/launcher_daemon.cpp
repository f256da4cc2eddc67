#include "slurm/launcher_daemon.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "launcher/core/error.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/process.hpp"
#include "slurm/options.hpp"
#include "slurm/spank_items.hpp"

namespace berth {

namespace {

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

struct Daemon {
  std::string_view name;
  bool is_missed;  ///< by its launcher, if its srun fails; else that waits for ever
};
constexpr std::array kDaemons = {
    Daemon{"orted", true},                // Open MPI 4
    Daemon{"prted", true},                // PRRTE, Open MPI 5
    Daemon{"hydra_pmi_proxy", false},     // MPICH
    Daemon{"pmi_proxy", false},           // MPICH and Intel MPI, older ones
    Daemon{"hydra_bstrap_proxy", false},  // Intel MPI
};

const Daemon* find_daemon(std::string_view command) {
  const auto* found = std::ranges::find(kDaemons, file_name(command), &Daemon::name);
  return found == kDaemons.end() ? nullptr : found;
}

/// The daemon that an srun is to start; nullptr: none. The command is not to be had from Slurm before the step has been
/// made, and a step that is refused then keeps its resources until the job ends. Launchers always give options to their
/// daemons.
const Daemon* find_started_daemon(const std::vector<std::string>& srun) {
  for (std::size_t i = 0; i + 1 < srun.size(); ++i)
    if (const Daemon* daemon = find_daemon(srun[i]); daemon != nullptr && srun[i + 1].starts_with('-')) return daemon;
  return nullptr;
}

bool runs_berth(const std::vector<std::string>& arguments) {
  const auto is_berth_run = [](const std::string& word, const std::string& next) {
    return file_name(word) == "berth" && next == "run";
  };
  return std::ranges::adjacent_find(arguments, is_berth_run) != arguments.end();
}

/// Open MPI's mpirun sends to /dev/null what its srun says.
void tell_launcher(int launcher, const std::string& text) {
  struct stat own {
  }, null{};
  if (fstat(STDERR_FILENO, &own) != 0 || stat("/dev/null", &null) != 0 || own.st_rdev != null.st_rdev) return;
  const UniqueFd its(open(fmt::format("/proc/{}/fd/{}", launcher, STDERR_FILENO).c_str(),
                          O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (its) [[maybe_unused]]
    const ssize_t written = write(its.get(), text.data(), text.size());
}

}  // namespace

bool is_launcher_daemon(spank_t spank) {
  const std::vector<std::string> arguments = read_arguments(spank);
  return !arguments.empty() && find_daemon(arguments.front()) != nullptr;
}

bool accept_launcher(const std::string& image) {
  const Daemon* daemon = find_started_daemon(read_command_line(getpid()));
  if (daemon == nullptr) return true;
  const int pid = getppid();
  const std::vector<std::string> launcher = read_command_line(pid);
  if (runs_berth(launcher)) return true;
  const std::string name(launcher.empty() ? "the launcher" : file_name(launcher.front()));
  const Error error(
      ErrorCode::usage, fmt::format("cannot give the ranks of {} the container '{}'", name, image),
      fmt::format("{} starts them itself, not Slurm, and its command line has no `berth run`", name),
      fmt::format("{0} -n N berth run {1} COMMAND; where a script of yours says `berth run`, or for ranks "
                  "on the host: {2}= {0} …",
                  name, image, slurm_variable("container")));
  slurm_spank_log("%s", error.render().c_str());
  tell_launcher(pid, error.render() + '\n');
  if (!daemon->is_missed && name.starts_with("mpi")) kill(pid, SIGTERM);  // and not a shell that runs srun by itself
  return false;
}

}  // namespace berth
