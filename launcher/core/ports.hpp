// Which physical port and card carries a device's traffic, and where it hangs. Pure.
#pragma once

#include <optional>
#include <string>

#include "launcher/core/inventory.hpp"

namespace berth {

/// A device's port and card. Names need only be the same for the same thing of one node.
struct Port {
  std::string name;        ///< that of the PF or parent, or of the first function with the same port
  std::string card;        ///< what ports share; empty: as the port
  std::string link_layer;  ///< "InfiniBand" or "Ethernet"; empty: unknown
};

/// The port of the network function `pci` (empty: no hardware) that is called `name` (may be empty): a netdev, or else
/// an RDMA device.
///
/// Functions of one PCI device are ports of one card. Those of NVIDIA (Mellanox) with one image GUID are one card
/// wherever they are, and function numbers tell its ports: Socket Direct shows a card once on each socket. Other
/// vendors give one GUID to all cards of a host, or zeros.
Port find_port(const Inventory& inventory, const std::optional<PciAddress>& pci, const std::string& name);

/// Where a function hangs by its path below /sys/devices, "pci0000:3a/0000:3a:00.0/0000:3b:00.1".
PciLocation make_pci_location(const std::string& pci_path, const CpuSet& local_cpus);

}  // namespace berth
