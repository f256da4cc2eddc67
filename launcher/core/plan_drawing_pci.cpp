#include "launcher/core/plan_drawing_pci.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <tuple>

#include "launcher/core/locality.hpp"

namespace berth {
namespace {

constexpr int kPadding = 8;
constexpr int kLabelHeight = 18;
constexpr int kLineHeight = 18;
constexpr int kCellWidth = 26;
constexpr int kCellHeight = 15;
constexpr int kCellGap = 3;

std::string speed_text(std::uint32_t mbps) {
  if (mbps == 0) return "";
  return mbps % 1000 == 0 ? fmt::format("{} Gb/s", mbps / 1000) : fmt::format("{} Mb/s", mbps);
}

std::string join(const std::vector<std::string>& parts) {
  std::vector<std::string> present;
  std::copy_if(parts.begin(), parts.end(), std::back_inserter(present), [](const auto& part) { return !part.empty(); });
  return fmt::format("{}", fmt::join(present, ", "));
}

std::string numa_text(const std::optional<unsigned>& node) {
  return node ? fmt::format("NUMA node {}", *node) : "NUMA node unknown";
}

DrawnDevice make_taken(const NodePlan& plan, std::size_t berth) {
  const BerthSpec& spec = plan.berths[berth];
  DrawnDevice device;
  device.state = DrawnDevice::State::taken;
  device.berth = berth;
  for (std::size_t rank = 0; rank < plan.ranks.size(); ++rank)
    if (std::ranges::count(berths_of(plan, plan.ranks[rank]), berth) > 0) device.ranks.push_back(rank);
  const std::string ranks = ranks_text(plan, device.ranks);
  device.label = join({spec.id, ranks});
  device.title = join({spec.id, "in the berth " + spec.interface, ranks,
                       spec.addresses.empty() ? "" : to_string(spec.addresses.front()), numa_text(spec.numa_node)});
  return device;
}

DrawnDevice make_other(const NodePlan& plan, const std::string& id, const std::string& label) {
  DrawnDevice device;
  device.label = label;
  device.title = id + ": not in the pool";
  for (const Rejection& rejection : plan.rejected) {
    if (rejection.device_id != id) continue;
    device.state = rejection.reason.starts_with("free")        ? DrawnDevice::State::free
                   : rejection.reason.starts_with("leased by") ? DrawnDevice::State::held
                                                               : DrawnDevice::State::unusable;
    device.title = fmt::format("{}: {}", id, rejection.reason);
  }
  return device;
}

/// The NIC's own line of text, and the tooltip.
void describe(DrawnPci& nic, const std::string& name, const std::optional<PciAddress>& pci, const NetDevice* device) {
  const std::string address = pci ? to_string(*pci) : "";
  const std::string speed = device == nullptr ? "" : speed_text(device->speed_mbps);
  const bool is_down = device != nullptr && device->link == LinkState::down;
  nic.label = join({name, address, speed, is_down ? "LINK DOWN" : ""});
  nic.title =
      join({name, address, speed, is_down ? "link down" : "", device == nullptr ? "" : numa_text(device->numa_node),
            device == nullptr ? "" : fmt::format("{}", fmt::join(device->rdma_devices, " "))});
}

/// The devices of the plan that come from `parent` and are none of its VFs: macvlans, or the NIC itself.
void add_stacked(DrawnPci& nic, const NodePlan& plan, const std::string& parent) {
  for (std::size_t berth = 0; berth < plan.berths.size(); ++berth)
    if (!parent.empty() && plan.berths[berth].parent == parent && !plan.berths[berth].pci)
      nic.devices.push_back(make_taken(plan, berth));
  for (const Rejection& rejection : plan.rejected) {
    const std::string prefix = parent + ".mv";
    if (parent.empty() || !rejection.device_id.starts_with(prefix)) continue;
    nic.devices.push_back(make_other(plan, rejection.device_id, rejection.device_id.substr(prefix.size())));
  }
}

void add_virtual_functions(DrawnPci& nic, const Inventory& inventory, const NodePlan& plan, const PciAddress& pf) {
  for (const VirtualFunction& vf : inventory.virtual_functions) {
    if (vf.pf != pf) continue;
    const auto berth =
        std::find_if(plan.berths.begin(), plan.berths.end(), [&](const BerthSpec& spec) { return spec.pci == vf.pci; });
    nic.devices.push_back(berth != plan.berths.end()
                              ? make_taken(plan, static_cast<std::size_t>(berth - plan.berths.begin()))
                              : make_other(plan, to_string(vf.pci), std::to_string(vf.index)));
  }
}

std::vector<PciLeaf> make_nic_leaves(const Inventory& inventory, const NodePlan& plan) {
  const Topology& topology = inventory.topology;
  std::vector<PciLeaf> leaves;
  for (const PhysicalFunction& pf : inventory.physical_functions) {
    const NetDevice* device = find_net_device(inventory, pf.netdev);
    DrawnPci nic;
    describe(nic, pf.netdev, pf.pci, device);
    if (device != nullptr) nic.near = device_cpus(topology, device->numa_node, device->local_cpus);
    add_virtual_functions(nic, inventory, plan, pf.pci);
    add_stacked(nic, plan, pf.netdev);
    leaves.push_back({std::move(nic), pf.pci});
  }
  for (const NetDevice& device : inventory.net_devices) {
    const auto is_function = [&](const auto& function) { return device.pci == function.pci; };
    const auto& pfs = inventory.physical_functions;
    const auto& vfs = inventory.virtual_functions;
    if (std::any_of(pfs.begin(), pfs.end(), is_function) || std::any_of(vfs.begin(), vfs.end(), is_function)) continue;
    DrawnPci nic;
    describe(nic, device.name, device.pci, &device);
    nic.near = device_cpus(topology, device.numa_node, device.local_cpus);
    add_stacked(nic, plan, device.name);
    if (device.pci || !nic.devices.empty()) leaves.push_back({std::move(nic), device.pci});
  }
  return leaves;
}

/// Roots and bridges from the outside in, which is how they nest; empty: unknown.
std::vector<std::string> path_of(const std::vector<PciFunction>& functions, const PciAddress& pci) {
  for (const PciFunction& function : functions) {
    if (parse_pci_address(function.address) != pci || function.location.host_bridge.empty()) continue;
    std::vector<std::string> path = {function.location.host_bridge};
    path.insert(path.end(), function.location.bridges.rbegin(), function.location.bridges.rend());
    return path;
  }
  return {};
}

/// `nodes` are those at `depth` of the path; titles of roots and bridges are their names until the tree is done.
void insert(std::vector<DrawnPci>& nodes, DrawnPci leaf, const std::vector<std::string>& path, std::size_t depth) {
  if (depth == path.size()) {
    nodes.push_back(std::move(leaf));
    return;
  }
  auto node = std::find_if(nodes.begin(), nodes.end(), [&](const DrawnPci& known) {
    return known.kind <= DrawnPci::Kind::bridge && known.title == path[depth];
  });
  if (node == nodes.end()) {
    DrawnPci added;
    added.kind = depth == 0 ? DrawnPci::Kind::root : DrawnPci::Kind::bridge;
    added.label = depth == 0 ? "PCI root" : "PCI bridge";
    added.title = path[depth];
    added.near = leaf.near;
    node = nodes.insert(node, std::move(added));
  }
  insert(node->children, std::move(leaf), path, depth + 1);
}

/// A bridge that leads to one thing only tells nothing.
void collapse(std::vector<DrawnPci>& nodes) {
  for (DrawnPci& node : nodes) {
    collapse(node.children);
    while (node.kind == DrawnPci::Kind::bridge && node.children.size() == 1) {
      DrawnPci only = std::move(node.children.front());
      node = std::move(only);
    }
    if (node.kind == DrawnPci::Kind::root && node.children.size() == 1 &&
        node.children.front().kind == DrawnPci::Kind::bridge) {
      std::vector<DrawnPci> behind = std::move(node.children.front().children);
      node.children = std::move(behind);
    }
    if (node.kind <= DrawnPci::Kind::bridge) node.title = node.label;
  }
}

}  // namespace

std::string ranks_text(const NodePlan& plan, const std::vector<std::size_t>& ranks) {
  CpuSet numbers;
  for (const std::size_t rank : ranks) numbers.add(plan.ranks[rank].rank);
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", to_string(numbers));
}

std::vector<PciLeaf> make_gpu_leaves(const Topology& topology, const std::vector<PciFunction>& functions) {
  std::vector<PciLeaf> leaves;
  for (const PciFunction& function : functions) {
    if (!function.has_gpu) continue;
    DrawnPci gpu;
    gpu.kind = DrawnPci::Kind::gpu;
    gpu.label = "GPU " + function.address;
    gpu.title = gpu.label;
    gpu.near = device_cpus(topology, std::nullopt, function.local_cpus);
    leaves.push_back({std::move(gpu), parse_pci_address(function.address)});
  }
  return leaves;
}

std::vector<DrawnPci> make_pci_tree(std::vector<PciLeaf> leaves, const std::vector<PciFunction>& functions) {
  std::vector<DrawnPci> nodes;
  for (auto& [leaf, address] : leaves)
    insert(nodes, std::move(leaf), address ? path_of(functions, *address) : std::vector<std::string>{}, 0);
  collapse(nodes);
  const auto place_of = [](const DrawnPci& node) { return std::tuple(node.near.empty(), node.near.first()); };
  std::stable_sort(nodes.begin(), nodes.end(),
                   [&](const DrawnPci& a, const DrawnPci& b) { return place_of(a) < place_of(b); });
  return nodes;
}

std::vector<DrawnPci> make_pci(const Inventory& inventory, const std::vector<PciFunction>& functions,
                               const NodePlan& plan) {
  std::vector<PciLeaf> leaves = make_nic_leaves(inventory, plan);
  for (PciLeaf& gpu : make_gpu_leaves(inventory.topology, functions)) leaves.push_back(std::move(gpu));
  return make_pci_tree(std::move(leaves), functions);
}

void place_pci(DrawnPci& pci, int x, int y, int width) {
  std::stable_sort(pci.devices.begin(), pci.devices.end(),
                   [](const DrawnDevice& a, const DrawnDevice& b) { return !a.ranks.empty() && b.ranks.empty(); });
  pci.box = {x, y, width, 0};
  const int left = x + kPadding;
  const int right = x + width - kPadding;
  y += kLabelHeight + kCellGap;
  for (DrawnPci& child : pci.children) {
    place_pci(child, left, y, right - left);
    y = child.box.bottom() + kCellGap;
  }
  int cell_x = left;
  for (DrawnDevice& device : pci.devices) {
    if (!device.ranks.empty()) {
      device.box = {left, y, right - left, kLineHeight};
      y += kLineHeight + kCellGap;
      continue;
    }
    if (cell_x + kCellWidth > right) {
      cell_x = left;
      y += kCellHeight + kCellGap;
    }
    device.box = {cell_x, y, kCellWidth, kCellHeight};
    cell_x += kCellWidth + kCellGap;
  }
  if (cell_x > left) y += kCellHeight + kCellGap;
  pci.box.height = y + kCellGap - pci.box.y;
}

}  // namespace berth
