#include "launcher/core/plan_drawing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/core/locality.hpp"
#include "launcher/core/plan_drawing_pci.hpp"

namespace berth {
namespace {

constexpr int kMargin = 16;
constexpr int kTitleHeight = 44;
constexpr int kPadding = 8;       ///< between a box and what is in it
constexpr int kLabelHeight = 18;  ///< of the line of text at the top of a box
constexpr int kCpuWidth = 60;
constexpr int kCpuHeight = 15;
constexpr int kCoreGap = 6;
constexpr int kLaneDistance = 4;
constexpr int kPciWidth = 360;
constexpr int kLegendHeight = 64;
constexpr int kLeastWidth = 760;

/// A part of a package that has one set of NUMA nodes.
struct Part {
  std::string label;
  std::vector<CpuSet> cores;
};

struct PackageParts {
  std::string label;
  std::vector<Part> parts;
};

/// Memory of two kinds, or of a node inside another: the smallest set with the CPU counts, and all nodes that have it.
std::string numa_label(const Topology& topology, const CpuSet& cpus) {
  unsigned smallest = 0;
  std::string nodes;
  for (const NumaNode& node : topology.numa_nodes) {
    if (!cpus.intersects(node.cpus)) continue;
    const unsigned size = node.cpus.count();
    if (nodes.empty() || size < smallest) {
      smallest = size;
      nodes = std::to_string(node.os_index);
    } else if (size == smallest) {
      nodes += fmt::format(", {}", node.os_index);
    }
  }
  if (nodes.empty()) return "no NUMA node";
  return (nodes.find(',') == std::string::npos ? "NUMA node " : "NUMA nodes ") + nodes;
}

/// Cores of the topology; CPUs that no core has are cores of their own.
std::vector<CpuSet> all_cores(const Topology& topology) {
  std::vector<CpuSet> cores;
  CpuSet rest = topology.cpus;
  for (const CpuSet& core : topology.cores) {
    if (core.empty()) continue;
    cores.push_back(core);
    rest -= core;
  }
  for (const unsigned cpu : rest.to_vector()) cores.push_back(CpuSet::range(cpu, cpu));
  return cores;
}

std::vector<PackageParts> split_machine(const Topology& topology) {
  std::vector<CpuSet> sets = topology.packages;
  CpuSet rest = topology.cpus;
  for (const CpuSet& set : sets) rest -= set;
  if (!rest.empty()) sets.push_back(rest);
  const std::vector<CpuSet> cores = all_cores(topology);
  std::vector<PackageParts> packages;
  for (std::size_t number = 0; number < sets.size(); ++number) {
    PackageParts package;
    package.label = number < topology.packages.size() ? fmt::format("package {}", number) : "CPUs";
    for (const CpuSet& core : cores) {
      if (!core.intersects(sets[number])) continue;
      const std::string label = numa_label(topology, core);
      auto part = std::find_if(package.parts.begin(), package.parts.end(),
                               [&](const Part& known) { return known.label == label; });
      if (part == package.parts.end()) part = package.parts.insert(part, Part{label, {}});
      part->cores.push_back(core);
    }
    if (!package.parts.empty()) packages.push_back(std::move(package));
  }
  return packages;
}

/// Cores per row, the same for all parts, so that their edges line up: as few as leave the machine no higher than wide,
/// or else as many as are still a picture and no tape.
int choose_columns(const std::vector<PackageParts>& packages) {
  std::size_t most = 1;
  for (const PackageParts& package : packages)
    for (const Part& part : package.parts) most = std::max(most, part.cores.size());
  constexpr std::size_t kMostColumns = 16;
  const std::size_t limit = std::min(most, kMostColumns);
  for (std::size_t columns = std::min<std::size_t>(4, limit); columns < limit; columns += columns < 4 ? 1 : 4) {
    std::size_t height = 0;
    for (const PackageParts& package : packages) {
      height += kLabelHeight + kPadding;
      for (const Part& part : package.parts) {
        const std::size_t threads = part.cores.front().count();
        const std::size_t rows = (part.cores.size() + columns - 1) / columns;
        height += kLabelHeight + kPadding + rows * (threads * kCpuHeight + 4 * kPadding);
      }
    }
    if (height <= columns * (kCpuWidth + kCoreGap)) return static_cast<int>(columns);
  }
  return static_cast<int>(limit);
}

/// Lays out the CPUs from the top down; keeps the place from which each rank's line starts.
class MachineLayout {
 public:
  MachineLayout(const NodePlan& plan, int columns) : plan_(plan), columns_(columns), starts_(plan.ranks.size()) {}

  std::vector<DrawnPackage> place(const std::vector<PackageParts>& packages, int x, int& y) {
    std::vector<DrawnPackage> drawn;
    for (const PackageParts& parts : packages) {
      DrawnPackage package;
      package.label = parts.label;
      package.box = {x, y, width() + 2 * kPadding, 0};
      y += kLabelHeight;
      for (const Part& part : parts.parts) {
        package.numa_nodes.push_back(place_part(part, x + kPadding, y));
        y += kPadding;
      }
      package.box.height = y - package.box.y;
      y += kPadding;
      drawn.push_back(std::move(package));
    }
    return drawn;
  }

  [[nodiscard]] int width() const { return columns_ * (kCpuWidth + kCoreGap) + kPadding; }
  [[nodiscard]] const std::vector<std::optional<DrawnLine>>& starts() const { return starts_; }

 private:
  DrawnNumaNode place_part(const Part& part, int x, int& y) {
    DrawnNumaNode node;
    node.label = part.label;
    node.box = {x, y, width(), 0};
    y += kLabelHeight;
    for (std::size_t first = 0; first < part.cores.size(); first += static_cast<std::size_t>(columns_)) {
      const std::size_t last = std::min(part.cores.size(), first + static_cast<std::size_t>(columns_));
      place_row(node, part, first, last, y);
    }
    node.box.height = y - node.box.y;
    return node;
  }

  void place_row(DrawnNumaNode& node, const Part& part, std::size_t first, std::size_t last, int& y) {
    int x = node.box.x + kPadding;
    int height = 0;
    std::vector<std::size_t> starting;  // ranks whose line starts in this row, from left to right
    for (std::size_t index = first; index < last; ++index) {
      DrawnCore core = place_core(part.cores[index], x, y);
      height = std::max(height, core.box.height);
      for (std::size_t rank = 0; rank < starts_.size(); ++rank) {
        const auto cpu = plan_.ranks[rank].cpus.first();
        if (starts_[rank] || !plan_.ranks[rank].berth || !cpu || !part.cores[index].contains(*cpu)) continue;
        starts_[rank] = DrawnLine{rank, 0, LineKind::unknown, core.box.x, core.box.bottom(), 0, 0, 0, 0};
        starting.push_back(rank);
      }
      x = core.box.right() + kCoreGap;
      node.cores.push_back(std::move(core));
    }
    y += height;
    spread(starting);
    // What starts at the right runs at the top: no lane crosses another line's way down.
    for (auto rank = starting.rbegin(); rank != starting.rend(); ++rank) {
      y += kLaneDistance;
      starts_[*rank]->lane_y = y;
    }
    y += kPadding;
  }

  /// Lines that start at one core share its lower edge.
  void spread(const std::vector<std::size_t>& starting) {
    for (std::size_t first = 0; first < starting.size();) {
      std::size_t last = first;
      const int x = starts_[starting[first]]->start_x;
      while (last < starting.size() && starts_[starting[last]]->start_x == x) ++last;
      for (std::size_t index = first; index < last; ++index) {
        starts_[starting[index]]->start_x =
            x + kCpuWidth * static_cast<int>(index - first + 1) / static_cast<int>(last - first + 1);
      }
      first = last;
    }
  }

  DrawnCore place_core(const CpuSet& cpus, int x, int y) const {
    DrawnCore core;
    core.box = {x, y, kCpuWidth, 0};
    for (const unsigned number : cpus.to_vector()) {
      DrawnCpu cpu;
      cpu.box = {x, y, kCpuWidth, kCpuHeight};
      cpu.number = number;
      for (std::size_t rank = 0; rank < plan_.ranks.size(); ++rank)
        if (plan_.ranks[rank].cpus.contains(number)) cpu.ranks.push_back(rank);
      core.cpus.push_back(std::move(cpu));
      y += kCpuHeight;
    }
    core.box.height = y - core.box.y;
    return core;
  }

  const NodePlan& plan_;
  int columns_;
  std::vector<std::optional<DrawnLine>> starts_;  ///< by position in NodePlan::ranks
};

/// Where the NUMA node that has most of `cpus` begins; nothing if no node has any.
std::optional<int> top_of(const std::vector<DrawnPackage>& packages, const CpuSet& cpus) {
  for (const DrawnPackage& package : packages) {
    for (const DrawnNumaNode& node : package.numa_nodes) {
      for (const DrawnCore& core : node.cores)
        if (cpus.contains(core.cpus.front().number)) return node.box.y;
    }
  }
  return std::nullopt;
}

std::string machine_label(const Topology& topology) {
  std::string memory;
  for (const NumaNode& node : topology.numa_nodes)
    if (node.cpus.empty()) memory += fmt::format("{}{}", memory.empty() ? "" : ", ", node.os_index);
  return memory.empty() ? "machine" : fmt::format("machine; NUMA nodes with memory only: {}", memory);
}

LineKind line_kind(const Locality& locality, const CpuSet& cpus, const CpuSet& near) {
  if (locality.has_one_domain()) return LineKind::local;
  const Locality::Device device = locality.locate(near);
  if (!device.known) return LineKind::unknown;
  switch (locality.nearness(cpus, device)) {
    case Nearness::local:
    case Nearness::numa_node:
      return LineKind::local;
    case Nearness::package:
      return LineKind::package;
    case Nearness::remote:
      break;
  }
  return LineKind::remote;
}

/// Adds the lines to the devices at and below `pci`.
class Wiring {
 public:
  Wiring(Drawing& drawing, const Topology& topology, const NodePlan& plan,
         const std::vector<std::optional<DrawnLine>>& starts)
      : drawing_(drawing), locality_(topology), plan_(plan), starts_(starts) {}

  void add(const DrawnPci& pci) {
    for (const DrawnPci& child : pci.children) add(child);
    for (const DrawnDevice& device : pci.devices) {
      const auto count = static_cast<int>(device.ranks.size());
      for (int index = 0; index < count; ++index) {
        const std::size_t rank = device.ranks[static_cast<std::size_t>(index)];
        if (!starts_[rank]) continue;
        DrawnLine line = *starts_[rank];
        line.berth = device.berth;
        line.kind = line_kind(locality_, plan_.ranks[rank].cpus, pci.near);
        line.edge_x = drawing_.machine.right();
        line.end_x = device.box.x;
        line.end_y = device.box.y + device.box.height * (index + 1) / (count + 1);
        drawing_.lines.push_back(line);
      }
    }
  }

 private:
  Drawing& drawing_;
  Locality locality_;
  const NodePlan& plan_;
  const std::vector<std::optional<DrawnLine>>& starts_;
};

}  // namespace

Drawing make_drawing(const Inventory& inventory, const std::vector<PciFunction>& functions, const NodePlan& plan) {
  return make_drawing(inventory.topology, make_pci(inventory, functions, plan), plan);
}

Drawing make_drawing(const Topology& topology, std::vector<DrawnPci> tree, const NodePlan& plan) {
  const std::vector<PackageParts> packages = split_machine(topology);
  Drawing drawing;
  drawing.machine_label = machine_label(topology);
  MachineLayout layout(plan, choose_columns(packages));
  int y = kTitleHeight + kLabelHeight;
  drawing.packages = layout.place(packages, kMargin + kPadding, y);
  drawing.machine = {kMargin, kTitleHeight, layout.width() + 4 * kPadding, y - kTitleHeight};

  drawing.pci = std::move(tree);
  const auto place_all = [&](int x) {
    int bottom = kTitleHeight;
    for (DrawnPci& pci : drawing.pci) {
      place_pci(pci, x, std::max(bottom, top_of(drawing.packages, pci.near).value_or(0)), kPciWidth);
      bottom = pci.box.bottom() + kPadding;
    }
    return bottom;
  };
  // The higher the picture, the steeper its lines would be: they get more room.
  constexpr int kLeastBand = 120;
  constexpr int kMostBand = 360;
  const int bottom = std::max(place_all(0), drawing.machine.bottom());
  const int pci_x = drawing.machine.right() + std::clamp(bottom / 5, kLeastBand, kMostBand);
  place_all(pci_x);
  Wiring wiring(drawing, topology, plan, layout.starts());
  for (const DrawnPci& pci : drawing.pci) wiring.add(pci);
  std::sort(drawing.lines.begin(), drawing.lines.end(), [](const DrawnLine& a, const DrawnLine& b) {
    return std::pair(a.rank, a.berth) < std::pair(b.rank, b.berth);
  });
  drawing.legend_y = bottom + kPadding;
  drawing.width = std::max(pci_x + kPciWidth + kMargin, kLeastWidth);
  drawing.height = drawing.legend_y + kLegendHeight;
  return drawing;
}

}  // namespace berth
