// Placement problems in files: ranks and devices of a machine that hwloc described, and the plans for them. Pure.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/placement.hpp"

namespace berth {

/// A problem, and what its devices are called.
struct NamedProblem {
  PlacementProblem problem;
  std::vector<std::string> devices;
};

/// The document in a problem's file; where it has a "problem", that. docs/json.md has the form. Throws Error{host} with
/// `source` and the place.
nlohmann::json parse_problem_file(std::string_view text, const std::string& source);
/// The hwloc XML file that such a document is about. Throws Error{host}.
std::string problem_topology(const nlohmann::json& document, const std::string& source);
/// The problem itself; ranks that cannot have a device are left without. Throws Error{host} with the path of the value
/// that does not fit `machine`, or is of the wrong kind.
NamedProblem parse_problem(const nlohmann::json& document, const std::string& source, const HwlocMachine& machine);

/// Every network function of a kind, or `vfs` VFs in place of each, for ranks that may use all allowed CPUs.
NamedProblem make_problem(const HwlocMachine& machine, NetworkKind kind, std::size_t vfs, std::size_t ranks);

/// {"version", "order", "assignment", "cpusets", "objective", "ranks"}; docs/json.md has the form.
nlohmann::json to_json_value(const NamedProblem& named, const Placement& placement);

}  // namespace berth
