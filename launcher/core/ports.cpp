#include "launcher/core/ports.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace berth {
namespace {

constexpr std::string_view kMellanox = "15b3";

/// Functions of one PCI device.
std::string card_of(const PciAddress& function) {
  return fmt::format("{:04x}:{:02x}:{:02x}", function.domain, function.bus, function.device);
}

const RdmaDevice* find_rdma(const Inventory& inventory, const std::optional<PciAddress>& pci) {
  const auto found =
      std::ranges::find_if(inventory.rdma_devices, [&](const RdmaDevice& device) { return pci && device.pci == pci; });
  return found == inventory.rdma_devices.end() ? nullptr : &*found;
}

/// Empty if the function's card is not told by a GUID.
std::string image_guid_of(const Inventory& inventory, const std::optional<PciAddress>& pci) {
  const RdmaDevice* rdma = find_rdma(inventory, pci);
  if (rdma == nullptr || rdma->vendor != kMellanox) return {};
  const bool is_zero = rdma->image_guid.find_first_not_of("0:") == std::string::npos;
  return is_zero ? std::string{} : rdma->image_guid;
}

std::string link_layer_of(const Inventory& inventory, const std::optional<PciAddress>& pci, const std::string& name) {
  for (const NetDevice& device : inventory.net_devices)
    if (device.name == name && !device.link_layer.empty()) return device.link_layer;
  const RdmaDevice* rdma = find_rdma(inventory, pci);
  return rdma == nullptr ? std::string{} : rdma->link_layer;
}

}  // namespace

Port find_port(const Inventory& inventory, const std::optional<PciAddress>& pci, const std::string& name) {
  Port port{name, {}, link_layer_of(inventory, pci, name)};
  if (!pci) return port;
  if (port.name.empty()) port.name = to_string(*pci);
  port.card = card_of(*pci);
  const std::string guid = image_guid_of(inventory, pci);
  if (guid.empty()) return port;
  port.card = guid;
  const auto is_same = [&](const auto& other) {
    return other.pci && other.pci->function == pci->function && image_guid_of(inventory, other.pci) == guid;
  };
  if (const auto net = std::ranges::find_if(inventory.net_devices, is_same); net != inventory.net_devices.end())
    port.name = net->name;
  else if (const auto rdma = std::ranges::find_if(inventory.rdma_devices, is_same);
           rdma != inventory.rdma_devices.end())
    port.name = rdma->name;
  return port;
}

PciLocation make_pci_location(const std::string& pci_path, const CpuSet& local_cpus) {
  PciLocation location;
  location.local_cpus = local_cpus;
  for (std::size_t begin = 0; begin < pci_path.size();) {
    const std::size_t end = std::min(pci_path.find('/', begin), pci_path.size());
    std::string part = pci_path.substr(begin, end - begin);
    if (end == pci_path.size()) {
      location.function = std::move(part);
    } else if (begin == 0) {
      location.host_bridge = std::move(part);
    } else {
      location.bridges.insert(location.bridges.begin(), std::move(part));
    }
    begin = end + 1;
  }
  return location;
}

}  // namespace berth
