#include "launcher/enter/rank_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "launcher/core/error.hpp"
#include "launcher/enter/enter.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/program.hpp"

namespace berth {

namespace {

constexpr int kFirstNumber = 3;  // of descriptors that are not standard streams

/// FNV-1a.
std::uint64_t digest(const std::vector<std::string>& texts) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const std::string& text : texts)
    for (const char c : text + '\0') hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

/// The number of a descriptor that is no standard stream; -1: `text` is none.
int parse_descriptor(const std::string& text) {
  int fd = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fd);
  return error == std::errc() && end == text.data() + text.size() && fd >= kFirstNumber ? fd : -1;
}

/// Whether it is what the C library opens where a setuid program lacks a standard stream: a device of which nothing can
/// be read, or to which nothing can be written.
bool is_stand_in(int stream) {
  struct stat status {};
  const int wrong = stream == STDIN_FILENO ? O_WRONLY : O_RDONLY;
  const int mode = fcntl(stream, F_GETFL);
  return mode >= 0 && (mode & O_ACCMODE) == wrong && fstat(stream, &status) == 0 && S_ISCHR(status.st_mode) &&
         (status.st_rdev == makedev(1, 3) || status.st_rdev == makedev(1, 7));  // null, full
}

}  // namespace

// The kernel lays out the strings of argv, those of the environment and the name of the program in this order and
// without gaps (fs/exec.c, do_execveat_common(); getauxval(3), AT_EXECFN). The C library moves pointers, not strings.
std::vector<std::string> read_initial_environment(int argc, char** argv) {
  if (argc < 1)
    throw Error(ErrorCode::usage, "cannot run this program", "it was started without even a name",
                "use `berth run IMAGE COMMAND`");
  std::vector<std::string> variables;
  const std::uintptr_t end = getauxval(AT_EXECFN);
  for (const char* at = argv[argc - 1] + std::strlen(argv[argc - 1]) + 1; reinterpret_cast<std::uintptr_t>(at) < end;
       at += std::strlen(at) + 1) {
    const std::string_view variable(at);
    // One value it does cut, at its colons (glibc before 2.39); what is behind them is no name of a variable.
    const bool is_cut = !variables.empty() && variables.back().starts_with("GLIBC_TUNABLES=") &&
                        variable.substr(0, variable.find('=')).find('.') != std::string_view::npos;
    if (is_cut)
      variables.back().append(":").append(variable);
    else
      variables.emplace_back(variable);
  }
  return variables;
}

void open_missing_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (is_stand_in(fd)) close(fd);
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
      throw system_error(errno, "cannot open /dev/null", "open");
  }
}

void close_inherited(const std::string& pmi_fd) {
  const int kept = parse_descriptor(pmi_fd);
  struct stat status {};
  const bool keep = kept >= 0 && fstat(kept, &status) == 0 && S_ISSOCK(status.st_mode);
  const auto from = static_cast<unsigned>(kFirstNumber);
  const bool closed = keep ? (kept == kFirstNumber || close_range(from, static_cast<unsigned>(kept) - 1, 0) == 0) &&
                                 close_range(static_cast<unsigned>(kept) + 1, ~0U, 0) == 0
                           : close_range(from, ~0U, 0) == 0;
  if (!closed) throw system_error(errno, "cannot close inherited files", "close_range");
}

std::map<std::string, std::string> parse_environment(const std::vector<std::string>& variables) {
  std::map<std::string, std::string> environment;
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=');
    if (equals != std::string::npos && equals > 0)
      environment.emplace(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return environment;
}

std::vector<std::string> find_session_directories(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> directories;
  for (const char* name : {"PMIX_SERVER_TMPDIR", "PMIX_SYSTEM_TMPDIR"})
    if (const auto found = environment.find(name); found != environment.end())
      if (const auto path = parse_absolute_path(found->second)) directories.push_back(*path);
  return directories;
}

std::uint64_t digest_run(const Credentials& user, const RunCall& call) {
  const LaunchContext& context = call.context;
  std::vector<std::string> texts = {context.launcher, context.run, context.pmix_uri, std::to_string(context.local_size),
                                    std::to_string(user.gid)};
  for (const std::uint32_t group : user.groups) texts.push_back(std::to_string(group));
  for (const auto& [name, value] : call.options) texts.push_back(name + '=' + value);
  if (context.run.empty()) {  // Hydra has no name for a run, but its ranks have one parent
    const int pid = context.launcher.empty() ? getpid() : getppid();
    texts.push_back(fmt::format("{} {}", pid, read_start_time(pid)));
  }
  return digest(texts);
}

void apply_environment(std::map<std::string, std::string>& environment, const RankEnvironment& changes) {
  for (const EnvironmentChange& change : resolve_environment(environment, changes)) {
    if (change.action == EnvironmentChange::Action::unset) {
      environment.erase(change.name);
    } else {
      environment[change.name] = change.value;
    }
  }
}

void exec_command(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
                  int& exit_code) {
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) variables.push_back(name + '=' + value);
  const auto path = environment.find("PATH");
  const std::string program =
      find_command(command.front(), path == environment.end() ? std::string() : path->second, exit_code);
  execve(program.c_str(), pointers_to(command).data(), pointers_to(variables).data());
  exit_code = kExitNotExecutable;
  throw system_error(errno, fmt::format("cannot run '{}' in the container", command.front()), "execve",
                     errno == ENOEXEC ? "it is neither a program of this machine's kind nor a script with #!" : "");
}

}  // namespace berth
