// A plan as a picture.
#pragma once

#include <string>
#include <vector>

#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/core/plan_drawing.hpp"

namespace berth {

/// The node and what each rank gets, as an SVG document of its own: no scripts, fonts or other files. Ranks, states and
/// kinds of lines differ by text and pattern, not by colour alone; <title> and <desc> say all of it in words. The same
/// plan gives the same text.
/// `functions`: what is known of the node's PCI tree (parse_hwloc_xml()), if anything: roots, bridges and GPUs.
std::string make_plan_svg(const Inventory& inventory, const std::vector<PciFunction>& functions, const NodePlan& plan);

/// The same of a drawing and a heading that the caller made.
std::string make_svg(const Drawing& drawing, const NodePlan& plan, const std::string& heading);

}  // namespace berth
