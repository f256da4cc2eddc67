// The cgroups of a step's ranks: which RDMA devices they may open, and how much of them they may use.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/rdma_grant.hpp"
#include "launcher/system/cgroup_devices.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// A rank that is to be restricted.
struct RankOfDevice {
  int pid = 0;
  std::string name;  ///< unique on the node
  const RdmaSettings* settings = nullptr;
  std::vector<const RdmaGrant*> grants;            ///< of all its devices
  std::vector<DeviceNumber> further_devices = {};  ///< that it may open, besides those of its grants
};

/// Rules and limits of all ranks of a step; they end with the object.
class RankCgroups {
 public:
  /// Where a cgroup holds nothing but the rank, it is used as it is; else the rank gets one of its own below it. Not
  /// where it is Slurm's and holds nothing but these ranks: they stay there together, and share what they may have,
  /// because Slurm signals those only that are where it put them. Throws Error{host} where what the pool asks for
  /// cannot be had.
  void apply(const std::vector<RankOfDevice>& ranks);
  RankCgroups() = default;
  RankCgroups(const RankCgroups&) = delete;
  RankCgroups& operator=(const RankCgroups&) = delete;
  ~RankCgroups();

 private:
  struct Made {
    std::string controller;  // "": cgroup v2
    std::string path;
    std::string device = {};  // that is limited there
  };
  std::string choose_cgroup(const std::string& controller, const RankOfDevice& rank,
                            const std::vector<RankOfDevice>& ranks);
  void apply_limits(const std::vector<RankOfDevice>& ranks);
  void apply_rules(const std::vector<RankOfDevice>& ranks);

  std::vector<Made> made_;
  std::vector<Made> limited_;
  std::vector<UniqueFd> links_;
};

/// Removes cgroups that brokers that were killed have left: those of RankCgroups, and of leave_step_cgroup(). Ranks and
/// relay are dead, they do not outlive their broker. Throws Error{host}.
void remove_stale_cgroups();

}  // namespace berth
