// The answer to a placement problem as a picture. Pure.
#pragma once

#include <string>

#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/placement_problem.hpp"

namespace berth {

/// As make_plan_svg(): `machine` with the devices of the problem, which are its functions or stand in their place.
/// `name` is what the drawing is about.
std::string make_problem_svg(const HwlocMachine& machine, const NamedProblem& named, const Placement& placement,
                             const std::string& name);

}  // namespace berth
