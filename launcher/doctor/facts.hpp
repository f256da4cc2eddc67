// What `berth doctor` looks at: read once, then only judged. Tests make facts up.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/system/user_namespace.hpp"

namespace berth {

enum class Available { no, loadable, yes };

struct KernelFacts {
  std::string release;                                  ///< as uname says
  std::vector<std::string> missing_calls;               ///< of the system calls that Berth makes
  std::map<std::string, Available> features;            ///< file systems and modules; absent: unknown
  std::optional<std::uint64_t> max_network_namespaces;  ///< /proc/sys/user; empty: unknown
  bool has_iommu = false;
  bool has_rdma_controller = false;  ///< of control groups, of either version
  bool has_selinux = false;          ///< is on, enforcing or not
};

struct PolicyFacts {
  std::string path;
  std::optional<Policy> policy;
  std::optional<Error> problem;   ///< why there is none
  std::optional<Error> distrust;  ///< why processes with privileges refuse it
};

struct ImagePathFacts {
  std::string path;
  bool exists = false;
  bool is_trusted = false;  ///< root's all the way up
};

/// One that the policy wants parked.
struct ParkedImageFacts {
  std::string path;
  bool is_parked = false;  ///< as it is now
};

struct SlurmFacts {
  std::map<std::string, std::string> configuration;  ///< of `scontrol show config`; empty: no answer
  std::string plugstack_path;
  bool plugstack_is_readable = false;
  std::string plugin_path;               ///< from the line of plugstack.conf; empty: there is none
  std::string plugin_problem;            ///< why the file cannot be loaded; empty: it can
  std::optional<unsigned> built_for;     ///< Slurm's version in the plugin, MAJOR << 16 | MINOR << 8 | MICRO
  bool has_pmix = false;                 ///< Slurm's plugin for --mpi=pmix
  std::string gres_conf;                 ///< text of the file beside slurm.conf; empty: there is none
  std::optional<std::uint64_t> memlock;  ///< of the running slurmd in bytes; empty: none runs, or it cannot be seen
};

struct LeaseFacts {
  LeaseRecord record;
  bool is_orphan = false;  ///< leased or being changed, and nobody holds its lock (root only)
};

/// Only where the policy has [onload].
struct OnloadFacts {
  bool is_enabled = false;
  std::string version;                ///< of library and module; empty with a problem
  std::optional<Error> problem;       ///< why no rank can use it
  std::vector<std::string> profiles;  ///< that Berth can use
  std::vector<Error> refusals;        ///< why it cannot use the others
};

struct NodeFacts {
  bool is_root = false;
  KernelFacts kernel;
  Inventory inventory;
  std::vector<std::string> vfs_without_carrier;  ///< netdevs of VFs that are up while their cable seems to be out
  PolicyFacts policy;
  std::vector<ImagePathFacts> image_paths;
  std::vector<ParkedImageFacts> parked_images;  ///< only root can tell
  bool has_squashfuse = false;
  bool fuse_is_open = false;  ///< /dev/fuse, to everybody
  std::string run_obstacle;   ///< why berth-enter has no rights; empty: it has them
  UserNamespaceLimits user_namespaces;
  OnloadFacts onload;
  std::optional<std::vector<std::string>> irqbalance;  ///< arguments of the daemon that runs; empty: none does
  SlurmFacts slurm;
  std::vector<LeaseFacts> leases;
  std::vector<std::string> stale_traces;  ///< devices of which only a lock file or a pin is left, which nobody holds
};

struct DoctorOptions {
  std::string sysfs_root = "/";  ///< where the sys/ is that has the devices
  std::string policy_path;
  std::string state_directory;
};

/// Reads everything but the inventory, which has the leases already. Whatever cannot be read stays unknown. Throws
/// Error{host} only if `root` is no directory.
NodeFacts read_node_facts(Inventory inventory, const DoctorOptions& options);

/// "KEY = VALUE" lines of `scontrol show config`.
std::map<std::string, std::string> parse_slurm_configuration(const std::string& text);

/// The path of Berth's plugin in the text of plugstack.conf; empty if no line names it.
std::string parse_plugstack(const std::string& text);

}  // namespace berth
