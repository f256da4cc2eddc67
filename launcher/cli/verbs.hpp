// The verbs of `berth`: each function adds one subcommand, with its options, its help and what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "launcher/cli/options.hpp"
#include "launcher/core/run_record.hpp"

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

/// What makes the calling process a rank where berth-enter has no rights, for the reason given; returns only if that
/// fails: the exit code.
using RunWithoutHelper = std::function<int(const RunRecord&, const std::string& obstacle)>;
void add_run_verb(CLI::App& app, GlobalOptions& options, const RunWithoutHelper& run_without_helper);
/// Takes what follows "--" away from the arguments of `berth run`: CLI11 would hand it to the main command.
std::vector<std::string> split_command(std::vector<std::string>& arguments);

}  // namespace berth
