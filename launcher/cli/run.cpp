// berth run: one rank, in a berth of its own, from any launcher.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/launch_context.hpp"

namespace berth {
namespace {

void check_command(const RunArguments& run, const CLI::App& verb, bool after_dashes) {
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

}  // namespace

std::vector<std::string> split_command(std::vector<std::string>& arguments) {
  const auto verb = std::ranges::find_if(arguments, [](const std::string& word) { return !word.starts_with('-'); });
  const auto dashes = std::find(verb, arguments.end(), "--");
  if (verb == arguments.end() || *verb != "run" || dashes == arguments.end()) return {};
  std::vector<std::string> command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

void add_run_verb(CLI::App& app, GlobalOptions& options, const RunFunction& start) {
  auto run = std::make_shared<RunArguments>();
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
  verb->callback([run, verb, &options, start] {
    run->verbose = options.verbose;
    run->command = verb->remaining();
    // A command that has begun already has a `--` of its own.
    if (!run->command.empty() && !options.after_dashes.empty()) run->command.emplace_back("--");
    run->command.insert(run->command.end(), options.after_dashes.begin(), options.after_dashes.end());
    try {
      check_command(*run, *verb, !options.after_dashes.empty());
      options.exit_code = start(*run);
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.render());
      options.exit_code = kExitRefused;
    }
  });
}

}  // namespace berth
