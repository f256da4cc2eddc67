#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/cli/verbs.hpp"
#include "launcher/doctor/checks.hpp"

namespace berth {
namespace {

/// What monitoring systems take: 0 fine, 1 warning, 2 critical.
int exit_code_of(Severity worst) {
  if (worst == Severity::error) return 2;
  return worst == Severity::warning ? 1 : 0;
}

void examine(const GlobalOptions& options, int& exit_code) {
  const NodeFacts facts = read_node_facts(read_node(options), {.sysfs_root = options.sysfs_root,
                                                               .policy_path = options.policy_path,
                                                               .state_directory = options.state_directory});
  Severity worst = Severity::ok;
  nlohmann::json list = nlohmann::json::array();
  for (const Check& check : kChecks) {
    for (const Finding& finding : check.judge(facts)) {
      worst = std::max(worst, finding.severity);
      if (options.json) {
        list.push_back({{"check", check.name},
                        {"severity", to_string(finding.severity)},
                        {"what", finding.what},
                        {"why", finding.why},
                        {"fix", finding.fix}});
        continue;
      }
      fmt::print("{:<8} {:<8} {}\n", to_string(finding.severity), check.name, escape_for_terminal(finding.what));
      if (!finding.why.empty()) fmt::print("{:18}why: {}\n", "", escape_for_terminal(finding.why));
      if (!finding.fix.empty()) fmt::print("{:18}fix: {}\n", "", escape_for_terminal(finding.fix));
    }
  }
  if (options.json)
    print_json(nlohmann::json{
        {"node", options.node}, {"root", facts.is_root}, {"severity", to_string(worst)}, {"findings", list}}
                   .dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  exit_code = exit_code_of(worst);
}

}  // namespace

void add_doctor_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("doctor", "Examine this node, and say what is wrong, why, and how to mend it.");
  verb->footer(
      "Examples:\n"
      "  sudo berth doctor            everything; an ordinary user does not see all\n"
      "  berth doctor --json          for monitoring (docs/json.md)\n"
      "Exit code: 0 nothing or notes only, 1 warnings, 2 errors. Nothing is changed.");
  verb->callback([&options] { examine(options, options.exit_code); });
}

}  // namespace berth
