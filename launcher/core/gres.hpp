// Slurm's generic resources (GRES): how Slurm counts and numbers the devices of a pool.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"

namespace berth {

/// What Slurm gave one job on one node of one resource, all types together.
struct GresGrant {
  std::string name;
  unsigned count = 0;
  std::optional<CpuSet> indexes;  ///< positions among the node's devices; empty: Slurm only counts this resource
  bool operator==(const GresGrant&) const = default;
};

/// What `scontrol --details show job` prints behind "GRES=": "vf:2(IDX:0-1),gpu:a100:1(IDX:3),licence(CNT:1)". Throws
/// Error{host} if the text is not of that form.
std::vector<GresGrant> parse_gres(std::string_view text);

/// One line of gres.conf: devices that are near the same cores.
struct GresLine {
  std::string name;
  std::vector<std::string> files;  ///< one for each device, in the order of Slurm's indexes
  CpuSet cores;                    ///< as Slurm and hwloc number cores; empty: near to none in particular
  bool operator==(const GresLine&) const = default;
};

/// The lines for the devices of `pool` on this node, in the order in which make_candidates() lists the devices: index N
/// of Slurm is the Nth of them. A VF's file is its directory in sysfs, which is there wherever its interface is; that
/// of a macvlan is its parent's, as often as the parent has devices. Throws as make_candidates() does.
std::vector<GresLine> make_gres_lines(const Pool& pool, const Inventory& inventory);

/// "Name=vf File=/sys/…,/sys/… Cores=0-7"
std::string to_string(const GresLine& line);

}  // namespace berth
