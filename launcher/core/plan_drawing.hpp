// Where everything of a plan's drawing lies: CPUs at the left, devices at the right, lines between. Pure.
//
// Each part of a NUMA node is a grid of cores. Below each row of cores runs a lane for each rank that starts there, to
// the right edge of the machine; from there a curve leads to the device. Nothing else is drawn where lines run, and
// each device stands beside its NUMA node as far as there is room: local lines are level, remote ones climb.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"

namespace berth {

/// In pixels; the origin is at the top left.
struct Box {
  int x = 0;
  int y = 0;
  int width = 0;
  int height = 0;
  [[nodiscard]] int right() const { return x + width; }
  [[nodiscard]] int bottom() const { return y + height; }
  bool operator==(const Box&) const = default;
};

struct DrawnCpu {
  Box box;
  unsigned number = 0;
  std::vector<std::size_t> ranks;  ///< positions in NodePlan::ranks
};

struct DrawnCore {
  Box box;
  std::vector<DrawnCpu> cpus;
};

/// What a package has of a NUMA node (usually all of it).
struct DrawnNumaNode {
  Box box;
  std::string label;
  std::vector<DrawnCore> cores;
};

struct DrawnPackage {
  Box box;
  std::string label;
  std::vector<DrawnNumaNode> numa_nodes;
};

/// A device that ranks get, as a line of text; any other device of the same parent, as a small cell.
struct DrawnDevice {
  enum class State { taken, free, held, unusable, other };  ///< other: not of the pool
  Box box;
  State state = State::other;
  std::string label;
  std::string title;
  std::size_t berth = 0;           ///< position in NodePlan::berths, if it is taken
  std::vector<std::size_t> ranks;  ///< positions in NodePlan::ranks
};

/// What hangs on PCI: a root or bridge with what is behind it, a NIC with the devices that come from it, a GPU.
struct DrawnPci {
  enum class Kind { root, bridge, nic, gpu };
  Kind kind = Kind::nic;
  Box box;
  std::string label;
  std::string title;
  std::vector<DrawnDevice> devices;  ///< of a NIC
  CpuSet near;                       ///< CPUs near it; empty: unknown
  std::vector<DrawnPci> children;    ///< of a root or bridge
};

/// How near a rank's CPUs are to its device, as far as a line can say.
enum class LineKind { local, package, remote, unknown };

/// From a core down to its lane, right to the machine's edge, and over to the device.
struct DrawnLine {
  std::size_t rank = 0;   ///< position in NodePlan::ranks
  std::size_t berth = 0;  ///< position in NodePlan::berths
  LineKind kind = LineKind::unknown;
  int start_x = 0;
  int start_y = 0;
  int lane_y = 0;
  int edge_x = 0;
  int end_x = 0;
  int end_y = 0;
};

struct Drawing {
  int width = 0;
  int height = 0;
  Box machine;
  std::string machine_label;
  std::vector<DrawnPackage> packages;
  std::vector<DrawnPci> pci;
  std::vector<DrawnLine> lines;
  int legend_y = 0;
};

/// `tree`: what hangs on PCI, without places.
Drawing make_drawing(const Topology& topology, std::vector<DrawnPci> tree, const NodePlan& plan);
/// `functions`: what is known of the node's PCI tree, if anything (parse_hwloc_xml()).
Drawing make_drawing(const Inventory& inventory, const std::vector<PciFunction>& functions, const NodePlan& plan);

}  // namespace berth
