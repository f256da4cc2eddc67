// berth, as users call it. It becomes a rank by itself, because it is started for each, and loads nothing for that. All
// else is done by the program with all verbs, whose libraries would take longer to load than a rank takes to start.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
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
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (arguments.empty() || arguments.front() != "run") return run_all_verbs(argv);
  berth::GlobalOptions options;
  CLI::App app;
  berth::add_run_verb(app, options, [argv](const auto&...) { return run_all_verbs(argv); });
  options.after_dashes = berth::split_command(arguments);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
    return options.exit_code;
  } catch (const std::exception&) {  // not understood, or --help: the other knows what to say
    return run_all_verbs(argv);
  }
}
