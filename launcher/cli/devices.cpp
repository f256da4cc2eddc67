#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/cli/node.hpp"
#include "launcher/cli/table.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/core/usnic.hpp"

namespace berth {
namespace {

struct PoolDevices {
  std::string pool;
  std::vector<Candidate> devices;
  std::string problem;  ///< why the pool cannot be used on this node at all; empty: it can
};

PoolDevices read_pool(const Pool& pool, const Inventory& inventory) {
  try {
    return {pool.name, make_candidates(pool, inventory), {}};
  } catch (const Error& error) {  // the other pools may do
    return {pool.name, {}, fmt::format("{}: {}", error.what_text, error.why)};
  }
}

bool is_parked(const Inventory& inventory, const std::string& id) {
  return std::any_of(inventory.held.begin(), inventory.held.end(),
                     [&](const HeldDevice& held) { return held.device_id == id && held.parked; });
}

std::string state_of(const Inventory& inventory, const Candidate& device) {
  if (!device.unusable.empty()) return device.unusable;
  return is_parked(inventory, device.berth.id) ? "free, parked" : "free";
}

std::string speed_text(std::uint32_t mbps) {
  if (mbps == 0) return "";
  return mbps % 1000 == 0 ? fmt::format("{}G", mbps / 1000) : fmt::format("{}M", mbps);
}

std::string numa_text(const std::optional<unsigned>& node) { return node ? std::to_string(*node) : ""; }

std::string vfs_text(const Inventory& inventory, const NetDevice& device) {
  for (const PhysicalFunction& pf : inventory.physical_functions) {
    if (device.pci == pf.pci && pf.total_vfs > 0) return fmt::format("{} of {}", pf.num_vfs, pf.total_vfs);
  }
  return {};
}

void print_nics(const Inventory& inventory) {
  Table table({"NIC", "PCI", "DRIVER", "LINK", "SPEED", "MTU", "NUMA", "VFS", "RDMA"});
  for (const NetDevice& device : inventory.net_devices) {
    if (device.name == "lo") continue;
    table.add({device.name, device.pci ? to_string(*device.pci) : "", device.driver,
               std::string(to_string(device.link)), speed_text(device.speed_mbps), std::to_string(device.mtu),
               numa_text(device.numa_node), vfs_text(inventory, device),
               device.rdma_devices.empty() ? "" : device.rdma_devices.front()});
  }
  fmt::print("{}", table.empty() ? "no network interface\n" : table.render());
}

void print_pool(const Inventory& inventory, const PoolDevices& pool, bool verbose) {
  const auto free = std::count_if(pool.devices.begin(), pool.devices.end(),
                                  [](const Candidate& device) { return device.unusable.empty(); });
  if (!pool.problem.empty()) return fmt::print("\npool \"{}\": {}\n", pool.pool, escape_for_terminal(pool.problem));
  fmt::print("\npool \"{}\": {} of {} devices free\n", pool.pool, free, pool.devices.size());
  Table table({"DEVICE", "ON", "ADDRESS", "NUMA", "STATE"});
  for (const Candidate& device : pool.devices) {
    if (!verbose && device.unusable.empty()) continue;  // without -v only what is not to be had
    const auto& addresses = device.berth.addresses;
    table.add({device.berth.id, device.port, addresses.empty() ? "" : to_string(addresses.front()),
               numa_text(device.berth.numa_node), state_of(inventory, device)});
  }
  if (!table.empty()) fmt::print("{}", table.render());
}

/// "255.255.0.0"
std::string netmask_text(const IpPrefix& address) {
  const std::uint32_t mask = address.prefix_length == 0 ? 0 : UINT32_MAX << (32U - address.prefix_length);
  return fmt::format("{}.{}.{}.{}", mask >> 24U, mask >> 16U & 255U, mask >> 8U & 255U, mask & 255U);
}

/// Whether the device can be used, in a word or in a reason.
std::string usnic_state(const UsnicDevice& device, const Inventory& inventory) {
  if (std::string defect = find_usnic_defect(device, inventory); !defect.empty()) return defect;
  const std::size_t name = device.port_state.find(": ");
  return name == std::string::npos ? device.port_state : device.port_state.substr(name + 2);
}

/// What Cisco's usd_devinfo says. Of an interface in another netns only the driver's knowledge is left.
void print_usnic(const Inventory& inventory) {
  if (inventory.usnic_devices.empty()) return;
  Table table({"USNIC", "INTERFACE", "MAC", "IP", "NETMASK", "MTU", "LINK", "BANDWIDTH", "VFS", "TAKEN", "QP/VF",
               "CQ/VF", "UVERBS", "FIRMWARE", "STATE"});
  for (const UsnicDevice& device : inventory.usnic_devices) {
    const std::string netdev = find_usnic_netdev(device, inventory);
    const NetDevice* net = find_net_device(inventory, netdev);
    table.add({device.name, device.interface, to_string(device.mac),
               device.address ? address_to_string(*device.address) : "",
               device.address && net ? netmask_text(*device.address) : "", net ? std::to_string(net->mtu) : "",
               net ? std::string(to_string(net->link)) : "", net ? speed_text(net->speed_mbps) : "",
               std::to_string(device.vfs), std::to_string(count_vfs_of_others(device, {}).vfs),
               std::to_string(device.qps_per_vf), std::to_string(device.cqs_per_vf),
               fmt::format("{} ({}:{})", device.uverbs, device.major, device.minor), device.firmware,
               usnic_state(device, inventory)});
  }
  fmt::print("\n{}", table.render());
}

nlohmann::json to_json_value(const Inventory& inventory, const PoolDevices& pool) {
  nlohmann::json devices = nlohmann::json::array();
  for (const Candidate& device : pool.devices) {
    nlohmann::json addresses = nlohmann::json::array();
    for (const IpPrefix& address : device.berth.addresses) addresses.push_back(to_string(address));
    devices.push_back({{"id", device.berth.id},
                       {"port", device.port},
                       {"addresses", addresses},
                       {"numa_node", device.berth.numa_node ? nlohmann::json(*device.berth.numa_node) : nullptr},
                       {"free", device.unusable.empty()},
                       {"parked", is_parked(inventory, device.berth.id)},
                       {"reason", device.unusable}});
  }
  return {{"name", pool.pool}, {"problem", pool.problem}, {"devices", std::move(devices)}};
}

void show_devices(const std::string& node_path, const GlobalOptions& options) {
  const auto [inventory, functions, cpus, policy, caller] = read_shown_node(node_path, options);
  std::vector<PoolDevices> pools;
  if (policy) {
    for (const Pool& pool : policy->pools) pools.push_back(read_pool(pool, inventory));
  }
  if (options.json) {
    nlohmann::json answer = berth::to_json_value(inventory);
    for (std::size_t i = 0; i < inventory.usnic_devices.size(); ++i)
      answer["usnic_devices"][i]["problem"] = find_usnic_defect(inventory.usnic_devices[i], inventory);
    answer["pools"] = nlohmann::json::array();
    for (const PoolDevices& pool : pools) answer["pools"].push_back(to_json_value(inventory, pool));
    return print_json(answer.dump(2));
  }
  print_nics(inventory);
  if (options.verbose) print_usnic(inventory);
  for (const PoolDevices& pool : pools) print_pool(inventory, pool, options.verbose);
  if (!policy) fmt::print("\nno policy: no pools\n");
}

}  // namespace

void add_devices_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("devices", "Show the NICs of this node, and the devices of each pool.");
  const auto node_path = std::make_shared<std::string>();
  add_node_option(app, *verb, *node_path);
  verb->footer(
      "Examples:\n"
      "  berth devices         NICs, free devices per pool, and why others are not free\n"
      "  berth devices -v      every device of every pool; usNIC devices with addresses and VFs");
  verb->callback([node_path, &options] { show_devices(*node_path, options); });
}

}  // namespace berth
