// The devices of a plan's drawing: which there are, what they hang on, and how they are laid out. Pure.
#pragma once

#include <optional>
#include <vector>

#include "launcher/core/plan_drawing.hpp"

namespace berth {

/// NICs that have a PCI address or are parent of one of the plan's devices, and GPUs, below PCI roots and the bridges
/// that several of them share as far as `functions` tells. Those of the first CPUs first, those of unknown place last.
std::vector<DrawnPci> make_pci(const Inventory& inventory, const std::vector<PciFunction>& functions,
                               const NodePlan& plan);

/// A NIC or GPU, and where it is.
struct PciLeaf {
  DrawnPci drawn;
  std::optional<PciAddress> address;
};

/// The leaves below their PCI roots and the bridges that several of them share, as far as `functions` tells, ordered as
/// make_pci() does.
std::vector<DrawnPci> make_pci_tree(std::vector<PciLeaf> leaves, const std::vector<PciFunction>& functions);

/// The GPUs of `functions`.
std::vector<PciLeaf> make_gpu_leaves(const Topology& topology, const std::vector<PciFunction>& functions);

/// "rank 3", "ranks 0-3,8": positions in NodePlan::ranks by their numbers.
std::string ranks_text(const NodePlan& plan, const std::vector<std::size_t>& ranks);

/// Gives `pci`, its devices and all below their boxes: taken devices a line each, then the others in rows of cells.
void place_pci(DrawnPci& pci, int x, int y, int width);

}  // namespace berth
