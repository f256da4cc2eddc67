// `berth plan --explain` and `--compare`: why a placement is as it is, and what others would have done.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/core/placement.hpp"

namespace berth {

struct ReasonOptions {
  bool explain = false;
  bool compare = false;
};

void add_reason_options(CLI::App& verb, ReasonOptions& options);

/// What was asked for, as tables below the plan's. `devices` are the names of the problem's.
void print_reasons(const ReasonOptions& options, const PlacementProblem& problem,
                   const std::vector<std::string>& devices, const Placement& placement);

/// The same as further keys of the plan's JSON: "explanation", "comparison".
void add_reasons(const ReasonOptions& options, const PlacementProblem& problem, const std::vector<std::string>& devices,
                 const Placement& placement, nlohmann::json& answer);

}  // namespace berth
