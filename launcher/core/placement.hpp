// Which rank gets which device and which CPUs. Pure, and free of names: the planner translates.
//
// The objective, most important first (order = locality):
//   unserved               ranks without a device: only where there are fewer devices than ranks, and policy allows it
//   same card, same port   of one rank's devices, where it gets several
//   gpu SYS, NODE, PHB, PXB  ranks by the path between their GPU and their device
//   remote, package, numa  ranks by how near their CPUs are to their device
//   distance               sum over the ranks of the mean distance (SLIT) of their CPUs from their device
//   cards, ports, devices  sum of load² / speed: the smaller, the more even; devices: of load²
//   then the lexicographically smallest list of devices by rank, so that the same local rank of all nodes gets the same
//   rail: devices are to be given in the order of the pool's parents, which is the same everywhere.
// order = balance moves cards, ports and devices before gpu.
//
// All of it is one min-cost flow (assignment.hpp): ranks with equal costs are one row of the network, devices with
// equal costs one column. Where ranks share a pool of CPUs, cpu_shares.hpp uses the same flow to decide how many ranks
// go to which NUMA node.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/locality.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// What to do when there are fewer devices than ranks: refuse; let several ranks use a device, as evenly as can be;
/// leave some ranks without a device.
enum class Shortage { fail, share, some };
std::string_view to_string(Shortage shortage);
std::optional<Shortage> parse_shortage(std::string_view text);

/// What counts first: ranks near their device, or even load on the physical ports.
enum class PlacementOrder { locality, balance };
std::string_view to_string(PlacementOrder order);
std::optional<PlacementOrder> parse_placement_order(std::string_view text);

struct PlacementDevice {
  std::string port;           ///< devices with the same port share one wire
  std::string card;           ///< ports of the same card share its PCI slot; one port has one card; empty: as the port
  CpuSet local_cpus;          ///< see device_cpus(); empty: unknown, which is neutral: neither local nor remote
  std::uint64_t speed = 0;    ///< in any unit, the same for all; 0: unknown
  std::size_t capacity = 1;   ///< ranks that may have it at once
  PciLocation location = {};  ///< looked at only where a rank has a GPU
};

struct PlacementRank {
  CpuSet allowed_cpus;             ///< never left; not empty
  std::optional<PciLocation> gpu;  ///< the GPU that the rank computes on
};

struct PlacementProblem {
  Topology topology;
  std::vector<PlacementRank> ranks;  ///< in local order
  std::vector<PlacementDevice> devices;
  Shortage shortage = Shortage::fail;
  PlacementOrder order = PlacementOrder::locality;
  std::size_t devices_per_rank = 1;  ///< more than 1: devices are not shared, whatever `shortage` says
};

struct PlacementChoice {
  std::vector<std::size_t> devices;       ///< indices into PlacementProblem::devices, ascending; empty: none
  CpuSet cpus;                            ///< non-empty subset of the rank's allowed CPUs
  Nearness nearness = Nearness::package;  ///< of the farthest device
  std::optional<PciPath> gpu_path;        ///< of the longest; empty: no GPU or no device
  std::string reason;                     ///< "local to NUMA node 0, port pf0 carries 1 of 2 ranks"
};

/// What one level of the objective amounts to.
struct PlacementLevel {
  std::string_view name;  ///< "unserved", "gpu SYS", "remote", "distance", "cards", …
  double value = 0;       ///< ranks, mean distance per rank, or load² / speed relative to the fastest device
  bool operator==(const PlacementLevel&) const = default;
};

struct Placement {
  std::vector<PlacementChoice> choices;   ///< one per rank
  std::vector<PlacementLevel> objective;  ///< most important first
};

/// The best placement; nullopt if `shortage` is fail and there is less room than ranks want devices.
/// Ranks whose allowed CPUs overlap get disjoint cores as long as there is one core per rank (choose_cpus()).
std::optional<Placement> choose_placement(const PlacementProblem& problem);

/// What the objective says about a placement that somebody else chose: `choices` gives devices and CPUs of each rank;
/// capacities are not looked at.
std::vector<PlacementLevel> measure_placement(const PlacementProblem& problem,
                                              const std::vector<PlacementChoice>& choices);

}  // namespace berth
