#include "launcher/cli/plan_reasons.hpp"

#include <fmt/format.h>

#include "launcher/cli/table.hpp"
#include "launcher/core/plan_compare.hpp"
#include "launcher/core/plan_explain.hpp"

namespace berth {
namespace {

void print_objective(const PlacementProblem& problem, const Placement& placement) {
  fmt::print("\nobjective, most important first (order = {}); no other placement is better:\n",
             to_string(problem.order));
  Table levels({"LEVEL", "VALUE"});
  for (const PlacementLevel& level : placement.objective)
    levels.add({std::string(level.name), fmt::format("{:.6g}", level.value)});
  fmt::print("{}", levels.render());
}

void print_alternatives(const PlacementProblem& problem, const std::vector<std::string>& devices,
                        const Placement& placement) {
  Table table({"RANK", "HAS", "INSTEAD", "PORT", "COSTS"});
  const auto alternatives = find_alternatives(problem, placement);
  for (std::size_t rank = 0; rank < alternatives.size(); ++rank) {
    for (const Alternative& other : alternatives[rank]) {
      const std::string swap = other.swap_with ? fmt::format(", changing places with local rank {}", *other.swap_with)
                               : other.moves.empty() ? ""
                               : other.moves.size() == 1
                                   ? fmt::format(", local rank {} moving", other.moves.front().rank)
                                   : fmt::format(", {} other ranks moving", other.moves.size());
      table.add({std::to_string(rank), devices[other.instead_of], devices[other.device],
                 problem.devices[other.device].port, to_string(other) + swap});
    }
  }
  fmt::print("\n{}", table.empty() ? "there is no other port to choose\n" : table.render());
}

}  // namespace

void add_reason_options(CLI::App& verb, ReasonOptions& options) {
  verb.add_flag("--explain", options.explain, "say what each rank's device on another port would cost");
  verb.add_flag("--compare", options.compare,
                "say what block, round-robin, NUMA-style and first-free policies would do");
}

void print_reasons(const ReasonOptions& options, const PlacementProblem& problem,
                   const std::vector<std::string>& devices, const Placement& placement) {
  if (placement.choices.empty()) return;
  if (options.explain) {
    print_objective(problem, placement);
    print_alternatives(problem, devices, placement);
  }
  if (!options.compare) return;
  Table table({"POLICY", "REMOTE RANKS", "WORST PORT", "DISTANCE", "TAKEN TWICE", "HOW"});
  for (const ComparedPlacement& one : compare_placements(problem, placement)) {
    table.add({std::string(one.policy), std::to_string(one.remote),
               fmt::format("{} of {}", one.worst_port, one.choices.size()), fmt::format("{:.4g}", one.distance),
               std::to_string(one.shared), std::string(one.meaning)});
  }
  fmt::print("\n{}", table.render());
}

void add_reasons(const ReasonOptions& options, const PlacementProblem& problem, const std::vector<std::string>& devices,
                 const Placement& placement, nlohmann::json& answer) {
  if (options.explain) answer["explanation"] = make_explanation(problem, devices, placement);
  if (options.compare) answer["comparison"] = to_json_value(compare_placements(problem, placement), devices);
}

}  // namespace berth
