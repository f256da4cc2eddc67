// The plugin inside slurmstepd: starts the step's broker, tells it about the ranks, and takes each rank into its berth.
#pragma once

#include <optional>
#include <string>

#include "launcher/core/error.hpp"
#include "launcher/core/request.hpp"
#include "launcher/enter/enter.hpp"
#include "launcher/system/fd.hpp"
#include "slurm/options.hpp"
#include "slurm/spank_items.hpp"

namespace berth {

/// Lives from init_post_opt to exit of one slurmstepd; each task has a copy by fork.
class SlurmStep {
 public:
  SlurmStep(SiteOptions site, Request request) : site_(std::move(site)), request_(std::move(request)) {}

  /// init_post_opt, root: starts the broker. An error is kept for the ranks: Slurm would end with exit code 0.
  void start(spank_t spank);
  /// task_post_fork, root, in slurmstepd: the task exists and Slurm has bound it.
  void announce_task(spank_t spank);
  /// task_init_privileged, root, in the task. A refusal is kept for enter_unprivileged; where entering itself fails, it
  /// does not return: the task exits with 125.
  void enter_privileged(spank_t spank);
  /// task_init, the user, in the task. Does not return on failure (125, 126, 127).
  void enter_unprivileged(spank_t spank);
  /// task_exit, in slurmstepd: after the last task, while srun still listens, says what the step has sent and received,
  /// if that was asked for.
  void end_task();
  /// exit: the broker brings everything home; waits for it.
  void finish();

 private:
  void start_broker(spank_t spank);
  [[noreturn]] void fail_task(const Error& error, int exit_code);
  void set_environment(spank_t spank, const Grant& grant);

  SiteOptions site_;
  Request request_;
  SpankJob job_;
  std::string directory_;  // STATE/steps/JOB.STEP
  UniqueFd control_;
  std::optional<Error> failure_;
  unsigned ended_tasks_ = 0;
  std::optional<Entry> entry_;  // in the task
  unsigned local_task_ = 0;     // in the task
};

}  // namespace berth
