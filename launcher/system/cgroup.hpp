// Control groups of Slurm jobs: which job a process belongs to, and the broker's place beside them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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

/// The control group beside those of all jobs for a process in control group `path` (a line of /proc/self/cgroup after
/// "0::"): "/system.slice/slurmstepd.scope/job_7/step_0/slurm" -> "/system.slice/slurmstepd.scope/berth". nullopt if
/// the path is not one of a Slurm step.
std::optional<std::string> make_cgroup_outside_jobs(std::string_view path);

/// Moves the calling process out of the Slurm step's control group (version 2) that it was started in: at the end of a
/// step slurmstepd kills whoever is there and removes it, while the broker still has devices to empty and bring home.
/// With version 1 only a broker that a rank has started is in one: slurmstepd itself and its children are not.
/// Throws Error{host}.
void leave_step_cgroup();

}  // namespace berth
