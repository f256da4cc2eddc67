// `berth plan` for machines that are not this one: problems in files, and topologies of hwloc.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/cli/plan_reasons.hpp"
#include "launcher/core/values.hpp"

namespace berth {

struct PlanFileOptions {
  std::string problem_path;
  std::string xml_path;
  std::size_t vfs = 0;
  std::string order;
  std::string shortage;

  [[nodiscard]] bool is_given() const { return !problem_path.empty() || !xml_path.empty(); }
};

void add_plan_file_options(CLI::App& verb, PlanFileOptions& options);

/// Prints the plan, and draws it to `svg_path` if that is not empty ("-": to standard output, and nothing else).
/// `masks`: one per rank, one for all of `ranks`, or none: what the topology allows. Throws Error.
void show_file_plan(const PlanFileOptions& options, std::optional<unsigned> ranks, const std::vector<CpuSet>& masks,
                    const ReasonOptions& reasons, const std::string& svg_path, bool json);

}  // namespace berth
