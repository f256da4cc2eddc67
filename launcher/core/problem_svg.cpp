#include "launcher/core/problem_svg.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "launcher/core/locality.hpp"
#include "launcher/core/plan_drawing_pci.hpp"
#include "launcher/core/plan_svg.hpp"

namespace berth {
namespace {

/// The placement as a plan: devices that are taken are its berths, their ports the parents.
NodePlan make_plan(const NamedProblem& named, const Placement& placement, const std::string& name) {
  NodePlan plan;
  plan.host = name;
  std::map<std::size_t, std::size_t> berths;  // by device
  for (const PlacementChoice& choice : placement.choices) {
    RankPlan rank;
    rank.rank = rank.local_rank = static_cast<unsigned>(plan.ranks.size());
    rank.cpus = choice.cpus;
    rank.reason = choice.reason;
    for (const std::size_t device : choice.devices) {
      const auto [berth, is_new] = berths.emplace(device, plan.berths.size());
      if (!rank.berth) rank.berth = berth->second;
      if (!is_new) continue;
      BerthSpec spec;
      spec.id = named.devices[device];
      spec.parent = named.problem.devices[device].port;
      plan.berths.push_back(std::move(spec));
    }
    plan.ranks.push_back(std::move(rank));
  }
  for (std::size_t device = 0; device < named.devices.size(); ++device)
    if (!berths.contains(device)) plan.rejected.push_back({named.devices[device], "free, not needed"});
  return plan;
}

DrawnDevice draw_device(const NodePlan& plan, const std::string& id, std::size_t number) {
  DrawnDevice device;
  const auto berth = std::ranges::find(plan.berths, id, &BerthSpec::id);
  if (berth == plan.berths.end()) {
    device.state = DrawnDevice::State::free;
    device.label = std::to_string(number);
    device.title = id + ": free, not needed";
    return device;
  }
  device.state = DrawnDevice::State::taken;
  device.berth = static_cast<std::size_t>(berth - plan.berths.begin());
  for (std::size_t rank = 0; rank < plan.ranks.size(); ++rank)
    if (plan.ranks[rank].berth == device.berth) device.ranks.push_back(rank);
  device.label = device.title = fmt::format("{}, {}", id, ranks_text(plan, device.ranks));
  return device;
}

/// Functions that have devices of the problem, in the order of these, and GPUs.
std::vector<PciLeaf> make_leaves(const HwlocMachine& machine, const NamedProblem& named, const NodePlan& plan) {
  std::vector<PciLeaf> leaves;
  std::map<std::string, std::size_t> leaf_of;  // by PciLocation::function
  for (std::size_t number = 0; number < named.devices.size(); ++number) {
    const std::string& place = named.problem.devices[number].location.function;
    const auto function = std::ranges::find_if(
        machine.functions, [&](const PciFunction& each) { return each.location.function == place; });
    if (function == machine.functions.end()) continue;
    const auto [leaf, is_new] = leaf_of.emplace(place, leaves.size());
    if (is_new) {
      DrawnPci nic;
      std::vector<std::string> names{function->address};
      for (const auto* more : {&function->fabrics, &function->networks})
        names.insert(names.end(), more->begin(), more->end());
      nic.label = fmt::format("{}", fmt::join(names, ", "));
      nic.title = fmt::format("{}, port {}", nic.label, named.problem.devices[number].port);
      nic.near = device_cpus(machine.topology, std::nullopt, function->local_cpus);
      leaves.push_back({std::move(nic), parse_pci_address(function->address)});
    }
    std::vector<DrawnDevice>& devices = leaves[leaf->second].drawn.devices;
    devices.push_back(draw_device(plan, named.devices[number], devices.size()));
  }
  for (PciLeaf& gpu : make_gpu_leaves(machine.topology, machine.functions)) leaves.push_back(std::move(gpu));
  return leaves;
}

}  // namespace

std::string make_problem_svg(const HwlocMachine& machine, const NamedProblem& named, const Placement& placement,
                             const std::string& name) {
  const NodePlan plan = make_plan(named, placement, name);
  auto tree = make_pci_tree(make_leaves(machine, named, plan), machine.functions);
  const std::string heading =
      fmt::format("{}: {} rank{} on {} device{}", name, plan.ranks.size(), plan.ranks.size() == 1 ? "" : "s",
                  named.devices.size(), named.devices.size() == 1 ? "" : "s");
  return make_svg(make_drawing(machine.topology, std::move(tree), plan), plan, heading);
}

}  // namespace berth
