#include <fmt/format.h>

#include "launcher/core/usnic.hpp"
#include "launcher/doctor/checks.hpp"

namespace berth {
namespace {

/// `gets_address`: whether pools give vNICs an address when they are parked.
void judge_device(const UsnicDevice& device, const Inventory& inventory, bool gets_address, Findings& findings) {
  const std::string netdev = find_usnic_netdev(device, inventory);
  if (const std::string defect = find_usnic_defect(device, inventory); !defect.empty()) {
    findings.push_back({Severity::error, fmt::format("usNIC device {} cannot be used", device.name), defect,
                        "no rank is given it meanwhile; load usnic_verbs again, or see the kernel's log"});
  } else if (!device.address && !netdev.empty()) {
    findings.push_back({gets_address ? Severity::note : Severity::warning,
                        fmt::format("usNIC device {} has no IPv4 address", device.name),
                        fmt::format("{} has none; without one its port stays in state INIT", netdev),
                        gets_address ? "it gets one from its pool when it is parked"
                                     : fmt::format("ip address add ADDRESS/LENGTH dev {}", netdev)});
  } else if (!device.port_state.starts_with("4:")) {
    findings.push_back({Severity::warning, fmt::format("the port of usNIC device {} is not active", device.name),
                        fmt::format("it is '{}'", device.port_state), "check cable, switch port, and the interface"});
  } else {
    findings.push_back({Severity::ok,
                        fmt::format("usNIC device {}: {} VFs with {} QPs each, port active", device.name, device.vfs,
                                    device.qps_per_vf),
                        "", ""});
  }
}

}  // namespace

Findings check_usnic(const NodeFacts& facts) {
  const Inventory& inventory = facts.inventory;
  if (inventory.usnic_devices.empty()) return {{Severity::ok, "no usNIC device", "", ""}};
  Findings findings;
  if (!facts.kernel.has_iommu)
    findings.push_back({Severity::error, "no IOMMU is on, and usNIC needs one",
                        "the kernel has made no IOMMU device: QPs of usNIC cannot be made",
                        "turn on VT-d (or AMD-Vi) in the BIOS, and boot with intel_iommu=on"});
  const auto& policy = facts.policy.policy;
  bool moves = false;
  bool gets_address = false;
  for (const Pool& pool : policy ? policy->pools : std::vector<Pool>{}) {
    if (pool.kind != PoolKind::usnic || is_in_host_network(pool)) continue;
    moves = true;
    gets_address = gets_address || !pool.addresses.inherit;
  }
  if (inventory.rdma_netns_mode == RdmaNetnsMode::exclusive)
    findings.push_back({moves ? Severity::error : Severity::note,
                        "usNIC works only on the host: RDMA devices are in mode exclusive",
                        "its driver cannot move a device into a rank's network namespace",
                        "options ib_core netns_mode=1 in /etc/modprobe.d, then boot"});
  for (const UsnicDevice& device : inventory.usnic_devices) judge_device(device, inventory, gets_address, findings);
  return findings;
}

}  // namespace berth
