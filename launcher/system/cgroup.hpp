// Control groups of Slurm jobs: which job a process belongs to, and the places of Berth's own processes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/system/fd.hpp"

namespace berth {

/// A step of a Slurm job as the name of its control group says it.
struct SlurmStepId {
  std::uint32_t job = 0;
  std::uint32_t step = 0;  ///< Slurm's reserved number for "batch", "extern" and "interactive"
  std::string node;        ///< NodeName, where several slurmd share a machine; else empty
  bool operator==(const SlurmStepId&) const = default;
};
/// "/slurm/uid_1000/job_7/step_0/task_0" (version 1), "/system.slice/slurmstepd.scope/job_7/step_batch/…" (version 2);
/// nullopt if the path is not one of a Slurm step.
std::optional<SlurmStepId> parse_slurm_cgroup(std::string_view path);
/// The step that process `pid` belongs to by its control groups: the kernel's word, as long as root has made the group
/// (users can have control groups of their own making). nullopt: none, or Slurm does not use control groups
/// (ProctrackType=proctrack/cgroup). Needs CAP_SYS_ADMIN. Throws Error{host}.
std::optional<SlurmStepId> read_slurm_step_of(int pid);

/// Control groups (version 2) for what serves a step.
struct StepCgroups {
  std::string broker;    ///< beside all jobs: "/system.slice/slurmstepd.scope/berth"
  std::string services;  ///< in the job, beside its steps: "/system.slice/slurmstepd.scope/job_7/berth-4711"
  bool operator==(const StepCgroups&) const = default;
};
/// Those of the step that broker `pid` in control group `path` (a line of /proc/self/cgroup after "0::") belongs to,
/// such as "/system.slice/slurmstepd.scope/job_7/step_0/slurm". nullopt if the path is not one of a Slurm step.
std::optional<StepCgroups> make_step_cgroups(std::string_view path, int pid);

/// Moves the calling process out of the Slurm step's control groups that it was started in: at the end of a step
/// slurmstepd kills whoever is there and removes them, while the broker still has devices to empty and bring home.
/// Outside of the job, because a broker that is killed or starved for the job's memory would bring nothing home.
/// (With version 1 only a broker that a rank has started is in one: slurmstepd itself and its children are not.)
/// Its child processes that run as the user belong to the job, under its limits: with version 2, makes a control group
/// for them and returns its path; else "". Throws Error{host}.
std::string leave_step_cgroup();

/// What a process writes to, to join the group `services`; empty for "". Throws Error{host}.
UniqueFd open_cgroup_to_join(const std::string& services);
/// Moves the calling process into the group that `fd` is of; -1: stays. It also stays if the group is gone: what a
/// process counts for is no boundary. In either case it may be killed where that group's memory is at its limit.
void join_cgroup(int fd);
/// Removes the group when its last process has left it; nothing for "". Throws Error{host}.
void remove_cgroup(const std::string& services);

}  // namespace berth
