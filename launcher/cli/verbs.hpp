// The verbs of `berth`: each function adds one subcommand, with its options, its help and what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "launcher/cli/options.hpp"
#include "launcher/cli/run_rank.hpp"

namespace berth {

void add_capture_verb(CLI::App& app, GlobalOptions& options);
void add_devices_verb(CLI::App& app, GlobalOptions& options);
void add_doctor_verb(CLI::App& app, GlobalOptions& options);
void add_gres_verb(CLI::App& app, GlobalOptions& options);
void add_leases_verb(CLI::App& app, GlobalOptions& options);
void add_park_verb(CLI::App& app, GlobalOptions& options);
void add_plan_verb(CLI::App& app, GlobalOptions& options);
void add_policy_verb(CLI::App& app, GlobalOptions& options);
void add_repair_verb(CLI::App& app, GlobalOptions& options);
void add_stats_verb(CLI::App& app, GlobalOptions& options);
void add_unpark_verb(CLI::App& app, GlobalOptions& options);
void add_version_verb(CLI::App& app, GlobalOptions& options);

/// What starts the rank that was asked for; returns only if that fails: the exit code.
using RunFunction = std::function<int(const RunArguments&)>;
void add_run_verb(CLI::App& app, GlobalOptions& options, const RunFunction& start);
/// Takes what follows "--" away from the arguments of `berth run`: CLI11 would hand it to the main command.
std::vector<std::string> split_command(std::vector<std::string>& arguments);

}  // namespace berth
