#include "launcher/core/plan_json.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/core/error.hpp"

namespace berth {
namespace {

using nlohmann::json;

template <typename T>
json optional_value(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

json optional_pci(const std::optional<PciAddress>& pci) { return pci ? json(to_string(*pci)) : json(nullptr); }

json prefixes(const std::vector<IpPrefix>& list) {
  json array = json::array();
  for (const IpPrefix& prefix : list) array.push_back(to_string(prefix));
  return array;
}

json to_json_value(const RdmaSettings& rdma) {
  if (rdma.mode == RdmaMode::off) return nullptr;
  return {{"mode", std::string(to_string(rdma.mode))},
          {"hca_handles", optional_value(rdma.hca_handles)},
          {"hca_objects", optional_value(rdma.hca_objects)},
          {"self_test", rdma.self_test},
          {"device_rules", rdma.device_rules},
          {"selinux_label", rdma.selinux_label}};
}

json to_json_value(const BerthSpec& berth) {
  return {{"id", berth.id},
          {"pool", berth.pool},
          {"kind", std::string(to_string(berth.kind))},
          {"parent", berth.parent},
          {"pci", optional_pci(berth.pci)},
          {"index", berth.index},
          {"joins", berth.joins.empty() ? json(nullptr) : json(berth.joins)},
          {"interface", berth.interface},
          {"park", std::string(to_string(berth.park))},
          {"inherit_addresses", berth.inherit_addresses},
          {"addresses", prefixes(berth.addresses)},
          {"mtu", optional_value(berth.mtu)},
          {"gateways", prefixes(berth.gateways)},
          {"numa_node", optional_value(berth.numa_node)},
          {"rdma", to_json_value(berth.rdma)},
          {"vf", berth.vf == VfAttributes{} ? json(nullptr) : to_json_value(berth.vf)}};
}

json to_json_value(const RankPlan& rank) {
  return {{"rank", rank.rank},
          {"local_rank", rank.local_rank},
          {"berth", optional_value(rank.berth)},
          {"cpus", to_string(rank.cpus)},
          {"numa_node", optional_value(rank.numa_node)},
          {"gpu", optional_pci(rank.gpu)},
          {"reason", rank.reason}};
}

json to_json_value(const Rejection& rejection) {
  return {{"device", rejection.device_id}, {"reason", rejection.reason}};
}

json to_json_value(const NetDevice& device) {
  return {{"name", device.name},
          {"index", device.index},
          {"mac", to_string(device.mac)},
          {"mtu", device.mtu},
          {"link", std::string(to_string(device.link))},
          {"speed_mbps", device.speed_mbps},
          {"kind", device.kind},
          {"driver", device.driver},
          {"pci", optional_pci(device.pci)},
          {"rdma_devices", device.rdma_devices},
          {"numa_node", optional_value(device.numa_node)},
          {"local_cpus", to_string(device.local_cpus)},
          {"pci_path", device.pci_path},
          {"link_layer", device.link_layer}};
}

json to_json_value(const PhysicalFunction& pf) {
  return {{"pci", to_string(pf.pci)}, {"netdev", pf.netdev}, {"total_vfs", pf.total_vfs}, {"num_vfs", pf.num_vfs}};
}

json to_json_value(const VirtualFunction& vf) {
  return {{"pci", to_string(vf.pci)},
          {"pf", to_string(vf.pf)},
          {"index", vf.index},
          {"driver", vf.driver},
          {"netdev", vf.netdev},
          {"rdma_devices", vf.rdma_devices},
          {"numa_node", optional_value(vf.numa_node)},
          {"local_cpus", to_string(vf.local_cpus)},
          {"pci_path", vf.pci_path}};
}

json to_json_value(const RdmaDevice& device) {
  return {{"name", device.name},
          {"pci", optional_pci(device.pci)},
          {"netdev", device.netdev},
          {"link", std::string(to_string(device.link))},
          {"speed_mbps", device.speed_mbps},
          {"numa_node", optional_value(device.numa_node)},
          {"local_cpus", to_string(device.local_cpus)},
          {"pci_path", device.pci_path},
          {"link_layer", device.link_layer},
          {"image_guid", device.image_guid},
          {"vendor", device.vendor}};
}

json to_json_value(const UsnicQp& qp) { return {{"number", qp.number}, {"vf", qp.vf}, {"processes", qp.processes}}; }

json to_json_value(const UsnicDevice& device) {
  json qps = json::array();
  for (const UsnicQp& qp : device.qps) qps.push_back(to_json_value(qp));
  return {{"name", device.name},
          {"pci", optional_pci(device.pci)},
          {"interface", device.interface},
          {"uverbs", device.uverbs},
          {"uverbs_pci", optional_pci(device.uverbs_pci)},
          {"major", device.major},
          {"minor", device.minor},
          {"vfs", device.vfs},
          {"qps_per_vf", device.qps_per_vf},
          {"cqs_per_vf", device.cqs_per_vf},
          {"shares_vfs", device.shares_vfs},
          {"firmware", device.firmware},
          {"board", device.board},
          {"port_state", device.port_state},
          {"mac", to_string(device.mac)},
          {"address", device.address ? json(to_string(*device.address)) : json(nullptr)},
          {"qps", std::move(qps)},
          {"defects", device.defects}};
}

json to_json_value(const Gpu& gpu) {
  return {{"pci", to_string(gpu.pci)},
          {"numa_node", optional_value(gpu.numa_node)},
          {"local_cpus", to_string(gpu.local_cpus)},
          {"pci_path", gpu.pci_path}};
}

json to_json_value(const HeldDevice& held) {
  return {{"device", held.device_id},        {"parked", held.parked},           {"leased", held.leased},
          {"holder", held.holder},           {"quarantined", held.quarantined}, {"job", held.job},
          {"uid", optional_value(held.uid)}, {"parent", held.parent},           {"processes", held.processes}};
}

json cpu_lists(const std::vector<CpuSet>& sets) {
  json array = json::array();
  for (const CpuSet& cpus : sets) array.push_back(to_string(cpus));
  return array;
}

template <typename T>
json values(const std::vector<T>& list) {
  json array = json::array();
  for (const T& item : list) array.push_back(to_json_value(item));
  return array;
}

Error malformed(const std::string& key, std::string_view expected) {
  return {ErrorCode::host, "cannot read the topology", fmt::format("'{}' is not {}", key, expected),
          "capture the node again, or compare the file with docs/json.md"};
}

const json& member(const json& object, const std::string& key, const std::string& path) {
  if (!object.is_object()) throw malformed(path, "an object");
  const auto found = object.find(key);
  if (found == object.end()) throw malformed(path.empty() ? key : path + "." + key, "there");
  return *found;
}

CpuSet cpu_list(const json& value, const std::string& path) {
  const auto cpus = value.is_string() ? parse_cpu_list(value.get_ref<const std::string&>()) : std::nullopt;
  if (!cpus) throw malformed(path, "a CPU list such as \"0-3,8\"");
  return *cpus;
}

const json& array_member(const json& object, const std::string& key) {
  const json& value = member(object, key, "");
  if (!value.is_array()) throw malformed(key, "an array");
  return value;
}

std::vector<CpuSet> cpu_lists_member(const json& object, const std::string& key) {
  std::vector<CpuSet> sets;
  for (const json& value : array_member(object, key))
    sets.push_back(cpu_list(value, fmt::format("{}[{}]", key, sets.size())));
  return sets;
}

std::vector<std::vector<std::uint32_t>> parse_distances(const json& rows, std::size_t nodes) {
  std::vector<std::vector<std::uint32_t>> distances;
  for (const json& row : rows) {
    const std::string path = fmt::format("distances[{}]", distances.size());
    if (!row.is_array() || row.size() != nodes) throw malformed(path, "an array with a number for each NUMA node");
    distances.emplace_back();
    for (const json& value : row) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() > UINT32_MAX) throw malformed(path, "of distances");
      distances.back().push_back(value.get<std::uint32_t>());
    }
  }
  if (!distances.empty() && distances.size() != nodes) throw malformed("distances", "one row for each NUMA node");
  return distances;
}

}  // namespace

json to_json_value(const NodePlan& plan) {
  return {{"version", kJsonVersion},
          {"host", plan.host},
          {"pool", plan.pool},
          {"pin", std::string(to_string(plan.pin))},
          {"berths", values(plan.berths)},
          {"ranks", values(plan.ranks)},
          {"rejected", values(plan.rejected)}};
}

json to_json_value(const Topology& topology) {
  json nodes = json::array();
  for (const NumaNode& node : topology.numa_nodes) {
    nodes.push_back({{"os_index", node.os_index}, {"cpus", to_string(node.cpus)}});
  }
  return {{"cpus", to_string(topology.cpus)},         {"allowed", to_string(topology.allowed)},
          {"cores", cpu_lists(topology.cores)},       {"groups", cpu_lists(topology.groups)},
          {"packages", cpu_lists(topology.packages)}, {"numa_nodes", std::move(nodes)},
          {"distances", topology.distances}};
}

json to_json_value(const Inventory& inventory) {
  return {{"version", kJsonVersion},
          {"host", inventory.host},
          {"topology", to_json_value(inventory.topology)},
          {"net_devices", values(inventory.net_devices)},
          {"physical_functions", values(inventory.physical_functions)},
          {"virtual_functions", values(inventory.virtual_functions)},
          {"rdma_devices", values(inventory.rdma_devices)},
          {"usnic_devices", values(inventory.usnic_devices)},
          {"gpus", values(inventory.gpus)},
          {"rdma_netns_mode",
           inventory.rdma_netns_mode ? json(std::string(to_string(*inventory.rdma_netns_mode))) : json(nullptr)},
          {"held", values(inventory.held)}};
}

Topology parse_topology(const json& value) {
  Topology topology;
  topology.cpus = cpu_list(member(value, "cpus", ""), "cpus");
  topology.allowed = cpu_list(member(value, "allowed", ""), "allowed");
  topology.cores = cpu_lists_member(value, "cores");
  topology.groups = cpu_lists_member(value, "groups");
  topology.packages = cpu_lists_member(value, "packages");
  for (const json& node : array_member(value, "numa_nodes")) {
    const std::string path = fmt::format("numa_nodes[{}]", topology.numa_nodes.size());
    const json& index = member(node, "os_index", path);
    if (!index.is_number_unsigned() || index.get<std::uint64_t>() > kMaxCpu) {
      throw malformed(path + ".os_index", "a number of a NUMA node");
    }
    topology.numa_nodes.push_back({index.get<unsigned>(), cpu_list(member(node, "cpus", path), path + ".cpus")});
  }
  topology.distances = parse_distances(array_member(value, "distances"), topology.numa_nodes.size());
  return topology;
}

}  // namespace berth
