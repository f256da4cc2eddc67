// What the ranks of a run without rights get: the plan, the root file system, and what each is told.
#pragma once

#include <string>
#include <vector>

#include "launcher/broker/protocol.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/enter/run_holder.hpp"

namespace berth {

struct RunPlan {
  std::vector<Grant> grants;  ///< of each rank
  UniqueFd rootfs;            ///< mount namespace; empty: none was asked for
  std::string note;           ///< for the user, once: what is missing; empty: nothing that was asked for
};

/// Reads policy and node, plans, and builds the root file system, for which the calling process enters a user namespace
/// for good. The policy counts where there is one; without one any image and mount will do that the user can read,
/// because nothing here needs an authority. Throws Error: policy for what needs berth-enter, or what the policy does
/// not allow; image, host.
RunPlan make_run_plan(const RunTask& task, const std::vector<LocalRank>& ranks);

}  // namespace berth
