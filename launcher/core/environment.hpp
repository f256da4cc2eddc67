// The environment of a rank: what its libraries need to find its device, and the site's and user's changes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/core/plan.hpp"
#include "launcher/core/rdma_grant.hpp"
#include "launcher/core/request.hpp"

namespace berth {

/// The variables that make MPI, UCX, libfabric, NCCL and friends use the devices of `berths` and no other, by the one
/// table in environment.cpp (docs/environment.md shows it). They are defaults: a variable that the user set wins.
/// `berths`: all of one rank, its first device first. `rdma`: their RDMA devices; empty if they have none, or nobody
/// has looked yet.
std::vector<EnvironmentChange> device_environment(const std::vector<BerthSpec>& berths,
                                                  const std::vector<RdmaGrant>& rdma = {});

/// Facts about the berth for programs and scripts: BERTH_DEVICE, BERTH_INTERFACE, BERTH_ADDRESS, BERTH_POOL,
/// BERTH_CPUS, BERTH_NUMA_NODE, BERTH_RANK, BERTH_RDMA_DEVICE, BERTH_RDMA_GID_INDEX. Always set; lists with commas
/// where the rank has several devices.
std::vector<EnvironmentChange> fact_environment(const NodePlan& plan, const RankPlan& rank,
                                                const std::vector<RdmaGrant>& rdma = {});

/// The changes for one rank, in the order in which they are applied.
struct RankEnvironment {
  std::vector<EnvironmentChange> defaults;  ///< device_environment(): only where the variable is unset
  std::vector<EnvironmentChange> facts;     ///< fact_environment()
  std::vector<EnvironmentChange> site;      ///< the policy's; ${NAME} stands for the caller's variable
  std::vector<EnvironmentChange> user;      ///< the request's
};
RankEnvironment make_rank_environment(const NodePlan& plan, const RankPlan& rank, const Policy& policy,
                                      const Request& request, const std::vector<RdmaGrant>& rdma = {});

/// Returns the changes that turn `current` into the rank's environment, with prepend and append already resolved: only
/// `set` and `unset` remain.
std::vector<EnvironmentChange> resolve_environment(const std::map<std::string, std::string>& current,
                                                   const RankEnvironment& rank);

}  // namespace berth
