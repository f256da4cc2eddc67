// berth with all its verbs: shows what a node has, plans, looks after parked devices, runs. What users call is
// launcher/enter/main.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error_json.hpp"

namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

int report(const berth::Error& error, bool json) {
  if (json) berth::print_json(to_json_value(error).dump(2));
  fmt::print(stderr, "{}\n", error.render());
  return error.code == berth::ErrorCode::usage ? kExitUsage : kExitFailure;
}

void collect_words(const CLI::App& app, std::vector<std::string>& words) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    words.push_back(verb->get_name());
}

/// A command line that cannot be understood, with the word that was probably meant.
berth::Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::vector<std::string> words;
  collect_words(app, words);
  std::string help = "berth";
  const CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) {
    deepest = deepest->get_subcommands().front();
    collect_words(*deepest, words);
    help += " " + deepest->get_name();
  }
  std::string fix = fmt::format("`{} --help` shows what can be said", help);
  for (const std::string& unknown : app.remaining(true)) {
    const auto nearest = berth::nearest_word(unknown.substr(0, unknown.find('=')), words);
    if (nearest) fix = fmt::format("did you mean '{}'?", *nearest);
  }
  return {berth::ErrorCode::usage, "cannot understand the command line", error.what(), fix};
}

void add_run_verb(CLI::App& app, berth::GlobalOptions& options) { berth::add_run_verb(app, options, berth::run_rank); }

void add_verbs(CLI::App& app, berth::GlobalOptions& options) {
  for (const auto add :
       {berth::add_plan_verb, add_run_verb, berth::add_devices_verb, berth::add_capture_verb, berth::add_policy_verb,
        berth::add_park_verb, berth::add_unpark_verb, berth::add_leases_verb, berth::add_repair_verb,
        berth::add_stats_verb, berth::add_doctor_verb, berth::add_gres_verb, berth::add_version_verb})
    add(app, options);
}

}  // namespace

int main(int argc, char** argv) {
  berth::GlobalOptions options;
  CLI::App app("A NIC, CPUs and a network namespace for every MPI rank.", "berth");
  app.set_version_flag("--version", "berth " BERTH_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  berth::add_global_options(app, options);
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  // Started once for each rank: the other verbs' options would take longer to set up than its own.
  if (!arguments.empty() && arguments.front() == "run")
    add_run_verb(app, options);
  else
    add_verbs(app, options);
  app.footer(
      "Examples:\n"
      "  berth devices                   what this node has, and who holds it\n"
      "  berth plan -n 8 app.sqsh        what 8 ranks would get here, and why\n"
      "  mpirun -n 8 berth run app.sqsh ./solver\n"
      "                                  8 ranks, each in a berth of its own\n"
      "  berth policy check              whether the policy file says what you mean\n"
      "`berth VERB --help` tells more about one verb.");
  options.after_dashes = berth::split_command(arguments);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version
    return report(usage_error(app, error), options.json);
  } catch (const berth::Error& error) {
    return report(error, options.json);
  } catch (const std::exception& error) {
    return report({berth::ErrorCode::internal, "cannot go on", error.what(), "please report this as a bug"},
                  options.json);
  }
  return options.exit_code;
}
