// The broker's place among the control groups of a Slurm job.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace berth {

/// The control group beside those of all jobs for a process in control group `path` (a line of /proc/self/cgroup after
/// "0::"): "/system.slice/slurmstepd.scope/job_7/step_0/slurm" -> "/system.slice/slurmstepd.scope/berth". nullopt if
/// the path is not one of a Slurm step.
std::optional<std::string> make_cgroup_outside_jobs(std::string_view path);

/// Moves the calling process out of the Slurm step's control group (version 2) that it was started in: at the end of a
/// step slurmstepd kills whoever is there and removes it, while the broker still has devices to empty and bring home.
/// Does nothing where there is no such group (with version 1 slurmstepd and its children are outside of what it kills).
/// Throws Error{host}.
void leave_step_cgroup();

}  // namespace berth
