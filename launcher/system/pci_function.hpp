// PCI functions as the running kernel's sysfs shows them now; the inventory's snapshot is sysfs.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// A number that the function keeps as long as it exists (also without a driver), and that no other has before the next
/// boot: a VF that was removed and made again has another. 0: there is no such function.
std::uint64_t read_pci_instance(const PciAddress& pci);

/// Its driver; empty if none is bound.
std::string read_pci_driver(const PciAddress& pci);

/// Its netdev in the network namespace to which /sys belongs; empty if it has none there.
std::string read_pci_netdev(const PciAddress& pci);
/// The same in the network namespace that a mount of sysfs belongs to.
std::string read_pci_netdev(const PciAddress& pci, const UniqueFd& sysfs);

/// Has udev look at its netdev again, if it has one.
void announce_netdev(const PciAddress& pci);

/// The node GUID of its RDMA device, if it has one in that namespace.
std::optional<std::uint64_t> read_pci_node_guid(const PciAddress& pci);

/// A VF's PF, and the VF's number there.
struct VfPlace {
  PciAddress pf;
  unsigned index = 0;
};
/// nullopt if it is no VF.
std::optional<VfPlace> read_vf_place(const PciAddress& vf);

/// Binds `driver` and waits until it has probed. Throws Error{host}.
void bind_driver(const PciAddress& pci, const std::string& driver);
/// The function loses its netdev and RDMA device. Throws Error{host}.
void unbind_driver(const PciAddress& pci, const std::string& driver);

}  // namespace berth
