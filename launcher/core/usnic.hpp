// Cisco usNIC: an RDMA device ("usnic_0") of the PF that is a vNIC (driver enic), whose VFs give programs their queues.
// Kernel: drivers/infiniband/hw/usnic. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/values.hpp"

namespace berth {

struct Inventory;

/// A QP that somebody has now, and the VF that it takes.
struct UsnicQp {
  unsigned number = 0;
  unsigned vf = 0;
  std::vector<int> processes;  ///< who made it, then its parent, and so on
  bool operator==(const UsnicQp&) const = default;
};

struct UsnicDevice {
  std::string name;
  std::optional<PciAddress> pci;  ///< of the PF
  std::string interface;          ///< name of the PF's netdev, in whatever netns that is now
  std::string uverbs;             ///< "uverbs1"
  std::optional<PciAddress> uverbs_pci;
  unsigned major = 0;  ///< of /dev/infiniband/uverbs1
  unsigned minor = 0;
  unsigned vfs = 0;
  unsigned qps_per_vf = 0;
  unsigned cqs_per_vf = 0;
  bool shares_vfs = false;  ///< whether QPs of one protection domain may take one VF (module parameter)
  std::string firmware;
  std::string board;
  std::string port_state;            ///< "4: ACTIVE"; "2: INIT": no IPv4 address
  MacAddress mac{};                  ///< as the driver knows it, wherever the netdev is
  std::optional<IpPrefix> address;   ///< its IPv4 address likewise; with /32 unless the netdev is on the host
  std::vector<UsnicQp> qps;          ///< by number
  std::vector<std::string> defects;  ///< "max_vf is missing or malformed": what could not be read
  bool operator==(const UsnicDevice&) const = default;
};

/// Whether libfabric takes an RDMA device of this name for a usNIC: it knows them by nothing else.
bool is_usnic_name(std::string_view name);

/// "QPN: 12 State: (RTS) PID: 4711 VF Idx: 3 WQ[0] …", as qpn/12/summary says it.
std::optional<UsnicQp> parse_usnic_qp(std::string_view text);

/// What the one GID of a usNIC says: "fe80:0000:0a4d:0001:0025:b5ff:fe00:0001" is MAC and IPv4 address (0: none).
struct UsnicGid {
  MacAddress mac{};
  std::optional<IpPrefix> address;  ///< with /32
  bool operator==(const UsnicGid&) const = default;
};
std::optional<UsnicGid> parse_usnic_gid(std::string_view text);

/// Where the files of a device contradict each other, or say too little; empty: it can be trusted, wherever its netdev
/// is.
std::string find_usnic_defect(const UsnicDevice& device, const Inventory& inventory);

/// The name of the PF's netdev, if that is in the host's netns.
std::string find_usnic_netdev(const UsnicDevice& device, const Inventory& inventory);

/// VFs that a rank with so many QPs takes: one for each, unless the driver lets those of a process share.
unsigned count_vfs_per_rank(const UsnicDevice& device, unsigned qps_per_rank);

/// VFs that are taken by processes other than those of leases (`own`: their pids), and the first of these processes.
struct UsnicUse {
  unsigned vfs = 0;
  int process = 0;  ///< 0: nobody's
};
UsnicUse count_vfs_of_others(const UsnicDevice& device, const std::vector<int>& own);

}  // namespace berth
