#include "launcher/cli/run_rank.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/core/error.hpp"
#include "launcher/enter/rank_process.hpp"
#include "launcher/enter/unprivileged.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/program.hpp"
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

}  // namespace

int run_rank(const RunArguments& run) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  // Also where berth-enter will say the same: what it is told has to be right.
  const RunCall call = make_run_call(run, parse_environment(variables));
  if (const std::string obstacle = find_obstacle(); !obstacle.empty()) return run_unprivileged(call, obstacle);
  std::vector<std::string> words = make_plain_words(run);
  words.insert(words.begin(), {kEnterByBerth, "run"});
  execv(kEnterProgram, pointers_to(words).data());
  throw system_error(errno, "cannot start berth-enter", fmt::format("execve {}", kEnterProgram));
}

}  // namespace berth
