// What the site allows: the contents of /etc/berth/policy.toml, documented key by key in docs/policy.md.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/placement.hpp"
#include "launcher/core/request.hpp"
#include "launcher/core/values.hpp"
#include "launcher/core/vf_attributes.hpp"

namespace berth {

enum class PoolKind {
  macvlan,
  sriov,
  pf,     ///< whole NICs: the parents themselves
  host,   ///< no device of its own: a share of an RDMA device, in the host's network
  usnic,  ///< Cisco usNIC; a pool of shared vNICs has devices of kind `host`
};
inline constexpr std::initializer_list<PoolKind> kPoolKinds = {PoolKind::macvlan, PoolKind::sriov, PoolKind::pf,
                                                               PoolKind::host, PoolKind::usnic};
/// Whether devices of this kind are netdevs of the host, which are moved into their berths.
constexpr bool is_moved(PoolKind kind) { return kind != PoolKind::macvlan && kind != PoolKind::host; }
enum class Park { boot, first_use, never };
/// How a rank gets at an RDMA device. The kernel is in one of two modes (rdma system show), which Berth never changes.
enum class RdmaMode {
  off,
  exclusive,  ///< the device moves into the rank's netns (sriov only; the system's mode must be exclusive)
  shared,     ///< it stays where it is; which GIDs a rank can use depends on its netns (system mode shared)
};
/// Where the interrupts of a leased PCI function are served: where they were, or on the CPUs of its ranks.
enum class IrqSteering { off, near };
std::string_view to_string(PoolKind kind);
std::string_view to_string(Park park);
std::string_view to_string(RdmaMode mode);
std::string_view to_string(IrqSteering steering);

/// What a rank of a pool gets of an RDMA device. All but `mode` say nothing while that is off.
struct RdmaSettings {
  RdmaMode mode = RdmaMode::off;
  std::optional<unsigned> hca_handles;  ///< contexts that a rank may open (rdma.max); empty: no limit
  std::optional<unsigned> hca_objects;  ///< QPs, CQs, MRs … that it may make (rdma.max); empty: no limit
  bool self_test = false;               ///< try the device as the user before the rank's exec
  bool device_rules = false;            ///< deny every other RDMA char device in the rank's cgroup
  std::string selinux_label;            ///< label of the rank where SELinux is on; empty: as it comes
  bool operator==(const RdmaSettings&) const = default;
};

/// What ranks of a usNIC pool get.
enum class Vnic {
  own,    ///< each a whole vNIC: the PF's netdev and all its VFs
  shared  ///< VFs of a vNIC that stays on the host
};
std::string_view to_string(Vnic vnic);
struct UsnicSettings {
  Vnic vnic = Vnic::own;
  unsigned qps_per_rank = 1;  ///< that count against the vNIC's VFs
  bool operator==(const UsnicSettings&) const = default;
};

/// Where the addresses of a berth come from.
struct AddressPolicy {
  bool inherit = false;          ///< keep what the device had on the host (sriov only)
  std::vector<IpPrefix> ranges;  ///< else one address out of each, from node number and device index
  std::string nodes;             ///< hostlist of all nodes that share the ranges, "n[001-128]"
  bool operator==(const AddressPolicy&) const = default;
};

/// What is set of each VF through its PF before use, and restored after it.
struct VfPolicy {
  bool generate_mac = false;   ///< a MAC address made from node and device
  bool generate_guid = false;  ///< likewise node and port GUID
  VfAttributes attributes;     ///< without MAC address and GUIDs
  bool operator==(const VfPolicy&) const = default;
};

/// A pool of interchangeable devices.
struct Pool {
  std::string name;
  PoolKind kind = PoolKind::macvlan;
  std::vector<std::string>
      parents;  ///< PFs, macvlan parents (host: RDMA devices): name or PCI address; wildcards (not pf)
  unsigned berths_per_parent = 0;  ///< macvlan, host: how many on each parent; sriov: 0 = every VF; usnic: likewise
  Park park = Park::first_use;
  std::string interface = "rdma0";  ///< name of the netdev inside the berth
  AddressPolicy addresses;
  std::optional<unsigned> mtu;     ///< bytes; empty: the parent's
  std::vector<IpPrefix> gateways;  ///< default routes through these addresses; usually none on a fabric
  RdmaSettings rdma;
  VfPolicy vf;          ///< sriov only
  UsnicSettings usnic;  ///< usnic only
  std::string gres;     ///< Slurm's generic resource that counts the devices; empty: Slurm does not know them
  PlacementOrder order = PlacementOrder::locality;
  Shortage shortage = Shortage::fail;  ///< some: ranks that get no device are in the host's network
  bool operator==(const Pool&) const = default;
};

/// Whether the host does not see the pool's devices at all while they are in a berth, as it does VFs, which have a PF.
inline bool leaves_the_host(const Pool& pool) {
  return pool.kind == PoolKind::pf || (pool.kind == PoolKind::usnic && pool.usnic.vnic == Vnic::own);
}

/// Whether ranks of the pool stay in the host's network, as those do that share a device which they only open.
inline bool is_in_host_network(const Pool& pool) {
  return pool.kind == PoolKind::host || (pool.kind == PoolKind::usnic && pool.usnic.vnic == Vnic::shared);
}

/// Who may use which pools, and how much of them. Fields that are empty do not restrict.
struct AllowRule {
  std::vector<std::string> users;
  std::vector<std::string> groups;
  std::vector<std::string> accounts;
  std::vector<std::string> pools;
  std::optional<unsigned> max_devices;  ///< per job and node
  bool operator==(const AllowRule&) const = default;
};

enum class KernelMount { never, trusted };

struct ImagePolicy {
  std::vector<std::string> paths;                   ///< directories (or single images) below which images may lie
  KernelMount kernel_mount = KernelMount::trusted;  ///< trusted: root-owned and writable by root alone, all the way up
  std::vector<std::string> parked = {};             ///< image files that `berth park` keeps mounted
  bool operator==(const ImagePolicy&) const = default;
};

struct MountPolicy {
  bool home = true;                  ///< the user's home directory
  bool working_directory = true;     ///< the directory that the job was started in
  std::vector<std::string> allowed;  ///< directories of the host that users may mount by option
  std::vector<MountRequest> always;  ///< mounted for everybody
  std::vector<std::string> devices;  ///< further char devices for /dev, as shell patterns: "/dev/nvidia*"
  bool operator==(const MountPolicy&) const = default;
};

/// [onload]
struct OnloadPolicy {
  bool enabled = false;  ///< the table is there, and does not say otherwise
  std::string library;   ///< path of libonload.so; empty: where distributions have it
  std::string script = "/usr/bin/onload";
  std::string profiles = "/usr/libexec/onload/profiles";
  bool self_test = true;  ///< try the device nodes as the user before the rank's exec
  bool operator==(const OnloadPolicy&) const = default;
};

struct Policy {
  std::string source;  ///< file it was read from, for messages
  std::vector<Pool> pools;
  std::vector<AllowRule> allow;  ///< empty: everybody may use every pool
  ImagePolicy images;
  MountPolicy mounts;
  std::vector<EnvironmentChange> environment;
  Pin pin = Pin::cpus;
  IrqSteering irqs = IrqSteering::off;
  bool run_outside_jobs = false;         ///< whether `berth run` gives devices to who has no Slurm job on the node
  std::optional<std::uint64_t> memlock;  ///< bytes; UINT64_MAX: unlimited; empty: leave as it is
  OnloadPolicy onload;
  bool operator==(const Policy&) const = default;
};

/// Parses the text of a policy file. Throws Error{policy} with "FILE:LINE:COLUMN" in `why`; unknown keys are errors and
/// name the nearest known key. `source` is used in messages only.
Policy parse_policy(std::string_view text, const std::string& source);

/// Who asks. Identity is the kernel's or slurmstepd's word, never the environment's.
struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string user;                 ///< login name
  std::vector<std::string> groups;  ///< names of all groups of the user
  std::string account;              ///< Slurm account; may be empty
};

/// The pool that `caller` gets for `request` (by name, or the first one allowed) and the device limit of the rule that
/// allowed it. Throws Error{policy} saying which rule is missing.
struct PoolGrant {
  const Pool* pool = nullptr;  ///< points into `policy`
  std::optional<unsigned> max_devices;
};
PoolGrant choose_pool(const Policy& policy, const Caller& caller, const Request& request);

/// Whether `path` (absolute, without symlinks or "..") lies below one of `directories`, compared by whole components.
bool is_below(std::string_view path, const std::vector<std::string>& directories);

}  // namespace berth
