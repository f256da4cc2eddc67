// The devices of a plan's drawing: which there are, what they hang on, and how they are laid out. Pure.
#pragma once

#include <vector>

#include "launcher/core/plan_drawing.hpp"

namespace berth {

/// NICs that have a PCI address or are parent of one of the plan's devices, and GPUs, below PCI roots and the bridges
/// that several of them share as far as `functions` tells. Those of the first CPUs first, those of unknown place last.
std::vector<DrawnPci> make_pci(const Inventory& inventory, const std::vector<PciFunction>& functions,
                               const NodePlan& plan);

/// Gives `pci`, its devices and all below their boxes: taken devices a line each, then the others in rows of cells.
void place_pci(DrawnPci& pci, int x, int y, int width);

}  // namespace berth
