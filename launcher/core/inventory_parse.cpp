#include "launcher/core/inventory_parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <set>

namespace berth {
namespace {

template <typename Word>
Word parse_word(const JsonReader& value, std::initializer_list<Word> known) {
  std::string words;
  for (const Word word : known) {
    if (to_string(word) == value.text()) return word;
    words += fmt::format("{}{}", words.empty() ? "" : ", ", to_string(word));
  }
  value.refuse("one of " + words);
}

LinkState parse_link(const JsonReader& value) {
  return parse_word(value, {LinkState::unknown, LinkState::down, LinkState::up});
}

NetDevice parse_net_device(const JsonReader& value) {
  value.expect_keys({"name", "index", "mac", "mtu", "link", "speed_mbps", "kind", "driver", "pci", "rdma_devices",
                     "numa_node", "local_cpus", "pci_path", "link_layer"});
  NetDevice device;
  device.pci_path = value.text_or_none("pci_path");
  device.link_layer = value.text_or_none("link_layer");
  device.name = value["name"].text();
  if (!is_interface_name(device.name)) value["name"].refuse("the name of a network interface");
  device.index = value["index"].small_number();
  const auto mac = parse_mac_address(value["mac"].text());
  if (!mac) value["mac"].refuse("a MAC address");
  device.mac = *mac;
  device.mtu = value["mtu"].small_number();
  device.link = parse_link(value["link"]);
  device.speed_mbps = value["speed_mbps"].small_number();
  device.kind = value["kind"].text();
  device.driver = value["driver"].text();
  if (!value["pci"].is_null()) device.pci = value["pci"].pci();
  device.rdma_devices = value["rdma_devices"].texts();
  device.numa_node = value["numa_node"].optional_number(kMaxCpu);
  device.local_cpus = value["local_cpus"].cpus();
  return device;
}

PhysicalFunction parse_physical_function(const JsonReader& value) {
  value.expect_keys({"pci", "netdev", "total_vfs", "num_vfs"});
  constexpr unsigned kMostVfs = 65535;
  return {value["pci"].pci(), value["netdev"].text(), value["total_vfs"].small_number(kMostVfs),
          value["num_vfs"].small_number(kMostVfs)};
}

VirtualFunction parse_virtual_function(const JsonReader& value) {
  value.expect_keys({"pci", "pf", "index", "driver", "netdev", "rdma_devices", "numa_node", "local_cpus", "pci_path"});
  VirtualFunction vf;
  vf.pci_path = value.text_or_none("pci_path");
  vf.pci = value["pci"].pci();
  vf.pf = value["pf"].pci();
  vf.index = value["index"].small_number(kMaxCpu);
  vf.driver = value["driver"].text();
  vf.netdev = value["netdev"].text();
  vf.rdma_devices = value["rdma_devices"].texts();
  vf.numa_node = value["numa_node"].optional_number(kMaxCpu);
  vf.local_cpus = value["local_cpus"].cpus();
  return vf;
}

RdmaDevice parse_rdma_device(const JsonReader& value) {
  value.expect_keys({"name", "pci", "netdev", "link", "speed_mbps", "numa_node", "local_cpus", "pci_path", "link_layer",
                     "image_guid", "vendor"});
  RdmaDevice device;
  device.pci_path = value.text_or_none("pci_path");
  device.link_layer = value.text_or_none("link_layer");
  device.image_guid = value.text_or_none("image_guid");
  device.vendor = value.text_or_none("vendor");
  device.name = value["name"].text();
  if (!value["pci"].is_null()) device.pci = value["pci"].pci();
  device.netdev = value["netdev"].text();
  device.link = parse_link(value["link"]);
  device.speed_mbps = value["speed_mbps"].small_number();
  device.numa_node = value["numa_node"].optional_number(kMaxCpu);
  device.local_cpus = value["local_cpus"].cpus();
  return device;
}

std::vector<int> parse_processes(const JsonReader& value) {
  constexpr unsigned kMostPid = 1U << 22U;  // PID_MAX_LIMIT
  std::vector<int> processes;
  for (const JsonReader& process : value.items()) processes.push_back(static_cast<int>(process.small_number(kMostPid)));
  return processes;
}

UsnicDevice parse_usnic_device(const JsonReader& value) {
  value.expect_keys({"name", "pci", "interface", "uverbs", "uverbs_pci", "major", "minor", "vfs", "qps_per_vf",
                     "cqs_per_vf", "shares_vfs", "firmware", "board", "port_state", "mac", "address", "qps",
                     "defects"});
  UsnicDevice device;
  device.name = value["name"].text();
  if (!value["pci"].is_null()) device.pci = value["pci"].pci();
  device.interface = value["interface"].text();
  device.uverbs = value["uverbs"].text();
  if (!value["uverbs_pci"].is_null()) device.uverbs_pci = value["uverbs_pci"].pci();
  device.major = value["major"].small_number();
  device.minor = value["minor"].small_number();
  device.vfs = value["vfs"].small_number();
  device.qps_per_vf = value["qps_per_vf"].small_number();
  device.cqs_per_vf = value["cqs_per_vf"].small_number();
  device.shares_vfs = value["shares_vfs"].flag();
  device.firmware = value["firmware"].text();
  device.board = value["board"].text();
  device.port_state = value["port_state"].text();
  const auto mac = parse_mac_address(value["mac"].text());
  if (!mac) value["mac"].refuse("a MAC address");
  device.mac = *mac;
  if (!value["address"].is_null()) {
    device.address = parse_ip_prefix(value["address"].text());
    if (!device.address) value["address"].refuse("an address with a prefix length");
  }
  for (const JsonReader& qp : value["qps"].items()) {
    qp.expect_keys({"number", "vf", "processes"});
    device.qps.push_back({qp["number"].small_number(), qp["vf"].small_number(), parse_processes(qp["processes"])});
  }
  device.defects = value["defects"].texts();
  return device;
}

Gpu parse_gpu(const JsonReader& value) {
  value.expect_keys({"pci", "numa_node", "local_cpus", "pci_path"});
  return {value["pci"].pci(), value["numa_node"].optional_number(kMaxCpu), value["local_cpus"].cpus(),
          value["pci_path"].text()};
}

HeldDevice parse_held(const JsonReader& value) {
  value.expect_keys({"device", "parked", "leased", "holder", "quarantined", "job", "uid", "parent", "processes"});
  return {value["device"].text(),
          value["parked"].flag(),
          value["leased"].flag(),
          value["holder"].text(),
          value["quarantined"].text(),
          value["job"].small_number(),
          value["uid"].optional_number(),
          value.text_or_none("parent"),
          value.has("processes") ? parse_processes(value["processes"]) : std::vector<int>{}};
}

}  // namespace

Inventory parse_inventory(const JsonReader& node) {
  node.expect_keys({"host", "net_devices", "physical_functions", "virtual_functions", "rdma_devices", "usnic_devices",
                    "gpus", "rdma_netns_mode", "held"});
  Inventory inventory;
  inventory.host = node["host"].text();
  std::set<std::string> names;
  for (const JsonReader& value : node["net_devices"].items()) {
    inventory.net_devices.push_back(parse_net_device(value));
    if (!names.insert(inventory.net_devices.back().name).second) value["name"].complain("is there twice");
  }
  std::set<PciAddress> physical;
  for (const JsonReader& value : node["physical_functions"].items()) {
    inventory.physical_functions.push_back(parse_physical_function(value));
    if (!physical.insert(inventory.physical_functions.back().pci).second) value["pci"].complain("is there twice");
  }
  std::set<PciAddress> virtual_functions;
  for (const JsonReader& value : node["virtual_functions"].items()) {
    inventory.virtual_functions.push_back(parse_virtual_function(value));
    const VirtualFunction& vf = inventory.virtual_functions.back();
    if (physical.contains(vf.pci) || !virtual_functions.insert(vf.pci).second) value["pci"].complain("is there twice");
    if (!physical.contains(vf.pf)) value["pf"].refuse("one of the physical functions");
  }
  std::set<std::string> rdma_names;
  for (const JsonReader& value : node["rdma_devices"].items()) {
    inventory.rdma_devices.push_back(parse_rdma_device(value));
    if (!rdma_names.insert(inventory.rdma_devices.back().name).second) value["name"].complain("is there twice");
  }
  if (node.has("usnic_devices"))
    for (const JsonReader& value : node["usnic_devices"].items()) {
      inventory.usnic_devices.push_back(parse_usnic_device(value));
      if (!rdma_names.contains(inventory.usnic_devices.back().name)) value["name"].refuse("one of the RDMA devices");
      const auto is_same = [&](const UsnicDevice& other) { return other.name == inventory.usnic_devices.back().name; };
      if (std::ranges::count_if(inventory.usnic_devices, is_same) > 1) value["name"].complain("is there twice");
    }
  if (node.has("gpus"))
    for (const JsonReader& value : node["gpus"].items()) inventory.gpus.push_back(parse_gpu(value));
  if (const JsonReader mode = node["rdma_netns_mode"]; !mode.is_null()) {
    inventory.rdma_netns_mode = parse_word(mode, {RdmaNetnsMode::exclusive, RdmaNetnsMode::shared});
  }
  std::set<std::string> held;
  for (const JsonReader& value : node["held"].items()) {
    inventory.held.push_back(parse_held(value));
    if (!held.insert(inventory.held.back().device_id).second) value["device"].complain("is there twice");
  }
  return inventory;
}

}  // namespace berth
