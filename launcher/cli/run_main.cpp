// berth, as users call it. It becomes a rank by itself, because it is started for each, and loads nothing for that. All
// else is done by the program with all verbs, whose libraries would take longer to load than a rank takes to start.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>

#include "launcher/cli/run_rank.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/launch_context.hpp"
#include "launcher/system/fd.hpp"

namespace {

constexpr const char* kAllVerbs = BERTH_LIBEXECDIR "/berth";

/// Returns only if it cannot be had: the exit code.
int run_all_verbs(char** argv) {
  execv(kAllVerbs, argv);
  const berth::Error error = berth::system_error(errno, "cannot start berth", fmt::format("execve {}", kAllVerbs),
                                                 "install Berth on this node");
  fmt::print(stderr, "{}\n", error.render());
  return berth::kExitRefused;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (words.empty() || words.front() != "run") return run_all_verbs(argv);
  const auto run = berth::parse_plain_arguments(std::span(words).subspan(1));
  if (!run) return run_all_verbs(argv);
  try {
    return berth::run_rank(*run, [argv](const auto&...) { return run_all_verbs(argv); });
  } catch (const berth::Error& error) {
    fmt::print(stderr, "{}\n", error.render());
  } catch (const std::exception& error) {
    fmt::print(stderr, "berth: internal error: {}\n", error.what());
  }
  return berth::kExitRefused;
}
