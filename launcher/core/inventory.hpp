// What a node has: a snapshot of topology, NICs and leases, taken once, then only read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/usnic.hpp"
#include "launcher/core/values.hpp"

namespace berth {

struct NumaNode {
  unsigned os_index = 0;
  CpuSet cpus;  ///< empty for memory-only nodes
  bool operator==(const NumaNode&) const = default;
};

struct Topology {
  std::vector<CpuSet> cores;         ///< the hardware threads of each core, in hwloc's logical order
  std::vector<CpuSet> groups;        ///< hwloc's Groups and dies: what NUMA nodes and packages may consist of
  std::vector<CpuSet> packages;      ///< empty: unknown
  std::vector<NumaNode> numa_nodes;  ///< ascending os_index, which may be sparse
  /// Latencies between NUMA nodes as firmware tells them (SLIT, 10: local), [from][to] in the order of numa_nodes; 0:
  /// not told; empty: nothing is.
  std::vector<std::vector<std::uint32_t>> distances;
  CpuSet cpus;     ///< all online CPUs
  CpuSet allowed;  ///< those that somebody restricted the machine to; empty: all
  bool operator==(const Topology&) const = default;
};

enum class LinkState { unknown, down, up };
std::string_view to_string(LinkState state);

/// Where a PCI function hangs. Names need only be the same for the same thing of one node.
struct PciLocation {
  std::string function;
  std::vector<std::string> bridges;  ///< PCI-to-PCI bridges (each switch has two on a path), nearest first
  std::string host_bridge;           ///< empty: unknown
  CpuSet local_cpus;                 ///< empty: unknown
  bool operator==(const PciLocation&) const = default;
};

/// A network interface of the host's netns.
struct NetDevice {
  std::string name;
  unsigned index = 0;  ///< ifindex
  MacAddress mac{};
  unsigned mtu = 0;  ///< bytes
  LinkState link = LinkState::unknown;
  std::uint32_t speed_mbps = 0;  ///< 0: unknown
  std::string kind;              ///< rtnl link kind: "macvlan", "veth", "bridge"; empty for hardware
  std::string driver;
  std::optional<PciAddress> pci;
  std::vector<std::string> rdma_devices;
  std::optional<unsigned> numa_node;  ///< empty: unknown
  CpuSet local_cpus;                  ///< empty: unknown
  std::string pci_path;               ///< below /sys/devices, "pci0000:3a/0000:3a:00.0/0000:3b:00.0"; empty: unknown
  std::string link_layer;             ///< "InfiniBand" or "Ethernet"; empty: something else
  bool operator==(const NetDevice&) const = default;
};

/// A virtual function of an SR-IOV PF, whether or not its netdev is in the host's netns now.
struct VirtualFunction {
  PciAddress pci;
  PciAddress pf;
  unsigned index = 0;  ///< VF number of its PF: virtfnN
  std::string driver;  ///< empty: none bound
  std::string netdev;  ///< empty: no netdev in the host's netns (parked, leased, foreign, vfio)
  std::vector<std::string> rdma_devices;
  std::optional<unsigned> numa_node;
  CpuSet local_cpus;
  std::string pci_path;
  bool operator==(const VirtualFunction&) const = default;
};

/// An RDMA device that the host's sysfs shows.
struct RdmaDevice {
  std::string name;
  std::optional<PciAddress> pci;        ///< empty: soft RoCE on something virtual
  std::string netdev;                   ///< of its first port, where there is one (RoCE, iWARP) in the host's netns
  LinkState link = LinkState::unknown;  ///< of its first port; unknown for RoCE whose netdev is in another netns
  std::uint32_t speed_mbps = 0;         ///< 0: unknown
  std::optional<unsigned> numa_node;
  CpuSet local_cpus;
  std::string pci_path = {};
  std::string link_layer = {};  ///< of its first port: "InfiniBand" or "Ethernet"
  std::string image_guid = {};  ///< what functions of one card have in common; zeros: nothing
  std::string vendor = {};      ///< of the PCI function, four hex digits
  bool operator==(const RdmaDevice&) const = default;
};

/// Whether an RDMA device is in one netns or seen from all of them: "rdma system show".
enum class RdmaNetnsMode { exclusive, shared };
std::string_view to_string(RdmaNetnsMode mode);

/// A PCI network function that can have VFs, or has a netdev of its own.
struct PhysicalFunction {
  PciAddress pci;
  std::string netdev;
  unsigned total_vfs = 0;
  unsigned num_vfs = 0;
  bool operator==(const PhysicalFunction&) const = default;
};

/// What the lease directory says about one device (launcher/broker/journal.hpp writes it).
struct HeldDevice {
  std::string device_id;
  bool parked = false;
  bool leased = false;
  std::string holder;                     ///< "job 4711.0 (alice)"; empty if not leased
  std::string quarantined;                ///< the reason; empty: healthy
  std::uint32_t job = 0;                  ///< of the holder; 0: none
  std::optional<std::uint32_t> uid = {};  ///< of the holder; empty: not leased, or nobody knows
  std::string parent = {};                ///< name of the netdev (or RDMA device) on the host that it is, or hangs on
  std::vector<int> processes = {};        ///< of the holder: its ranks
  bool operator==(const HeldDevice&) const = default;
};

/// A GPU or another accelerator.
struct Gpu {
  PciAddress pci;
  std::optional<unsigned> numa_node;
  CpuSet local_cpus;
  std::string pci_path;
  bool operator==(const Gpu&) const = default;
};

struct Inventory {
  std::string host;  ///< node name
  Topology topology;
  std::vector<NetDevice> net_devices;
  std::vector<PhysicalFunction> physical_functions;
  std::vector<VirtualFunction> virtual_functions;
  std::vector<RdmaDevice> rdma_devices;
  std::vector<UsnicDevice> usnic_devices;
  std::vector<Gpu> gpus;                         ///< by PCI address
  std::optional<RdmaNetnsMode> rdma_netns_mode;  ///< empty: the kernel has no RDMA
  std::vector<HeldDevice> held;
  bool operator==(const Inventory&) const = default;
};

/// The network interface of this name; nullptr: the host's netns has none.
const NetDevice* find_net_device(const Inventory& inventory, const std::string& name);

}  // namespace berth
