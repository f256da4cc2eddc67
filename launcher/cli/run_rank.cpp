#include "launcher/cli/run_rank.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "launcher/core/error.hpp"
#include "launcher/core/request.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/setuid_program.hpp"

namespace berth {
namespace {

constexpr const char* kEnterProgram = BERTH_LIBEXECDIR "/berth-enter";

/// Why berth-enter would not have the rights that it needs; empty: it has them.
std::string find_obstacle() {
  if (geteuid() == 0 && access(kEnterProgram, X_OK) == 0) return {};
  if (std::string obstacle = find_setuid_obstacle(kEnterProgram); !obstacle.empty()) return obstacle;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
    return "this process must not gain privileges (no_new_privs, set by a container or by systemd)";
  return {};
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

/// Takes the option at `at`, and moves `at` to the last word that belongs to it. false: it is not plain.
bool take_option(RunArguments& run, std::span<const std::string> words, std::size_t& at) {
  const std::string_view word = words[at];
  if (word == "-v" || word == "--verbose") return run.verbose = true;
  const std::size_t equals = word.find('=');
  std::string_view name = word.substr(0, equals);
  if (!name.starts_with("--")) return false;
  name.remove_prefix(name.starts_with("--rdma-") ? 7 : 2);
  const auto& specs = option_specs();
  const auto spec = std::ranges::find(specs, name, &OptionSpec::name);
  if (spec == specs.end() || name == "verbose" || name == "container") return false;
  std::string value = "1";
  if (equals != std::string_view::npos) {
    value = word.substr(equals + 1);
    if (value.empty() || spec->argument.empty() || spec->argument_is_optional) return false;
  } else if (!spec->argument.empty() && !spec->argument_is_optional) {
    if (++at == words.size() || words[at].empty() || words[at].starts_with('-')) return false;
    value = words[at];
  }
  run.options.emplace_back(name, std::move(value));
  return true;
}

}  // namespace

std::optional<RunArguments> parse_plain_arguments(std::span<const std::string> words) {
  RunArguments run;
  for (std::size_t at = 0; at < words.size(); ++at) {
    const bool dashes = words[at] == "--";
    if (words[at].starts_with('-') && !dashes) {
      if (!take_option(run, words, at)) return std::nullopt;
    } else if (!run.image.empty()) {
      run.command.assign(words.begin() + static_cast<std::ptrdiff_t>(dashes ? at + 1 : at), words.end());
      break;
    } else if (dashes || words[at].empty()) {
      return std::nullopt;
    } else {
      run.image = words[at];
    }
  }
  if (run.command.empty()) return std::nullopt;
  return run;
}

int run_rank(const RunArguments& run, const RunWithoutHelper& run_without_helper) {
  RunRecord record{.options = merge_environment(run.options), .command = run.command, .environment = {}};
  record.options.emplace_back("container", run.image);
  if (run.verbose) record.options.emplace_back("verbose", "1");
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

}  // namespace berth
