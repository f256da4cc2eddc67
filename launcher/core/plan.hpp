// make_plan(): everything that will happen on one node, decided before anything happens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/gres.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/placement.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/request.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// A rank that is to be placed on this node.
struct LocalRank {
  unsigned rank = 0;    ///< number in the step, as MPI counts
  CpuSet allowed_cpus;  ///< what the scheduler gave; never left
};

struct PlanInput {
  Request request;
  Policy policy;
  Inventory inventory;
  Caller caller;
  std::vector<LocalRank> ranks;                  ///< in local order: position = local rank
  std::uint32_t job = 0;                         ///< what its other steps hold counts against max_devices; 0: no job
  std::string device{};                          ///< no other than this, by id or PCI address; empty: any
  std::optional<std::vector<GresGrant>> gres{};  ///< what Slurm gave the job on this node; empty: Slurm was not asked
};

/// A device in its netns, as it has to be when a rank enters. Enough to park it and to recognise it later.
struct BerthSpec {
  std::string
      id;  ///< stable: PCI address of a VF or vNIC, "PARENT.mv3" for a macvlan, "PARENT.rdma3" for a share of a device
  std::string pool;
  PoolKind kind = PoolKind::macvlan;
  std::string parent;  ///< netdev name of the PF (usnic: on the host) or of the macvlan's parent; host: RDMA device
  std::optional<PciAddress> pci;  ///< the VF, or the PF that is a vNIC
  unsigned index = 0;             ///< device index in the pool on this node: what addresses are made from
  std::string joins = {};         ///< a rank's further device: the id of its first, whose netns this one is moved into
  std::string interface;          ///< name inside the berth; empty for PoolKind::host, which has no netns either
  Park park = Park::first_use;
  bool inherit_addresses = false;
  std::vector<IpPrefix> addresses;
  std::optional<unsigned> mtu;  ///< bytes
  std::vector<IpPrefix> gateways;
  std::optional<unsigned> numa_node;
  RdmaSettings rdma;
  VfAttributes vf;  ///< to be set through the PF; empty fields stay as they are
  bool operator==(const BerthSpec&) const = default;
};

/// The id of the berth in whose netns the device is.
const std::string& netns_owner(const BerthSpec& berth);

/// Why a device of the pool was not taken.
struct Rejection {
  std::string device_id;
  std::string reason;  ///< "leased by job 4711.0 (alice)", "link down", "quarantined: …"
  bool operator==(const Rejection&) const = default;
};

struct RankPlan {
  unsigned rank = 0;
  unsigned local_rank = 0;
  std::optional<std::size_t> berth;   ///< index into NodePlan::berths, see berths_of(); empty: host network
  CpuSet cpus;                        ///< what the rank is pinned to (with Pin::off: what it was allowed)
  std::optional<unsigned> numa_node;  ///< of the CPUs; empty if they span several
  std::optional<PciAddress> gpu;      ///< that its device was chosen for; empty: none was asked for
  std::string reason;
  bool operator==(const RankPlan&) const = default;
};

struct NodePlan {
  std::string host;
  std::string pool;  ///< empty with NetScope::host
  Pin pin = Pin::cpus;
  std::vector<BerthSpec> berths;  ///< those that are to be leased, each once
  std::vector<RankPlan> ranks;    ///< in local order
  std::vector<Rejection> rejected;
  bool operator==(const NodePlan&) const = default;
};

/// Positions in `plan.berths` of all devices of the rank: its berth, then those that join it.
std::vector<std::size_t> berths_of(const NodePlan& plan, const RankPlan& rank);

/// Every device that `pool` has on this node, free or not, with what makes it unusable (empty: usable and free).
struct Candidate {
  BerthSpec berth;
  std::string port;  ///< PF or parent netdev: what carries its traffic
  std::string card;  ///< what ports share; empty: as the port
  std::string link_layer;
  PciLocation location;
  CpuSet local_cpus;  ///< empty: unknown
  std::uint32_t speed_mbps = 0;
  std::string unusable;                        ///< the reason for a Rejection
  std::optional<std::size_t> most_ranks = {};  ///< that can use it at once; empty: any number
  std::string limit = {};                      ///< why not more: "it has 4 VFs, …"
};
std::vector<Candidate> make_candidates(const Pool& pool, const Inventory& inventory);
/// Whether somebody who says `device` means this one.
bool is_named(const Candidate& candidate, std::string_view device);

/// A plan with the problem whose answer it is. With NetScope::host there is none: no devices, no choices.
struct SolvedPlan {
  NodePlan plan;
  PlacementProblem problem;          ///< of the devices that could be had
  std::vector<std::string> devices;  ///< their ids
  Placement placement;
};

/// Plans all local ranks at once. Throws Error: policy (user, pool not allowed), busy (not enough free devices: names
/// the holders), host (no device at all, no CPU for a rank).
SolvedPlan solve_plan(const PlanInput& input);
/// The plan alone.
NodePlan make_plan(const PlanInput& input);

}  // namespace berth
