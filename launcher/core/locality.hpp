// How near CPUs, GPUs and network devices of a node are to each other. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// Of CPUs to a device, by the farthest of the CPUs; smaller is better.
///   local      among those that firmware calls local to the device
///   numa_node  on a NUMA node of the device, but not among these (the device hangs on a part of the node)
///   package    in a package of the device; also: nobody knows where the device is, which is neither good nor bad
///   remote     elsewhere
enum class Nearness : std::uint8_t { local, numa_node, package, remote };
std::string_view to_string(Nearness nearness);  ///< "local" | "NUMA node" | "package" | "remote"

/// How data get from one PCI function to another; smaller is better. NCCL calls them PIX, PXB, PHB, NODE, SYS.
enum class PciPath : std::uint8_t { one_switch, switches, host_bridge, numa_node, system };
std::string_view to_string(PciPath path);  ///< NCCL's names

/// The sets of CPUs that ranks are kept inside of, as long as there are no fewer ranks: those of NUMA nodes with
/// allowed CPUs, each once (memory of two kinds may have the same CPUs; memory of a whole machine of NUMA nodes is
/// none), then groups or packages whose CPUs have no memory near them; all CPUs if the topology names nothing.
std::vector<CpuSet> numa_domains(const Topology& topology);

/// The CPUs near a device as sysfs describes it: `local_cpus` where they say something, else those of its NUMA node;
/// empty if its place is unknown. Firmware that knows nothing calls all CPUs local.
CpuSet device_cpus(const Topology& topology, std::optional<unsigned> numa_node, const CpuSet& local_cpus);

/// Computes distances in one node; the topology must outlive it.
class Locality {
 public:
  explicit Locality(const Topology& topology);

  struct Device {
    bool known = false;
    CpuSet local;                                         ///< the device's own CPUs
    CpuSet numa_node;                                     ///< those and the ones of its NUMA nodes
    CpuSet package;                                       ///< those and the ones of its packages
    std::vector<std::pair<CpuSet, std::uint32_t>> zones;  ///< CPUs by their NUMA node's distance from the device
  };
  /// `local_cpus`: device_cpus(); empty: unknown.
  [[nodiscard]] Device locate(const CpuSet& local_cpus) const;

  [[nodiscard]] Nearness nearness(const CpuSet& cpus, const Device& device) const;
  /// Distances of all `cpus` added up: local CPUs of a device have 10 each where firmware tells nothing, others 20.
  [[nodiscard]] std::uint64_t distance(const CpuSet& cpus, const Device& device) const;
  [[nodiscard]] PciPath path(const PciLocation& a, const PciLocation& b) const;
  [[nodiscard]] bool has_one_domain() const { return one_domain_; }

 private:
  const Topology& topology_;
  bool one_domain_;
  std::vector<CpuSet> homes_;  ///< per NUMA node: the CPUs whose smallest node it is
};

}  // namespace berth
