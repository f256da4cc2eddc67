#include "launcher/system/cgroup.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/values.hpp"

using berth::make_cgroup_outside_jobs;
using berth::parse_slurm_cgroup;
using berth::SlurmStepId;

TEST_CASE("a control group outside all jobs is beside the job's") {
  CHECK(make_cgroup_outside_jobs("/system.slice/slurmstepd.scope/job_7/step_0/slurm") ==
        "/system.slice/slurmstepd.scope/berth");
  CHECK(make_cgroup_outside_jobs("/system.slice/n1_slurmstepd.scope/job_7/step_batch/user/task_0") ==
        "/system.slice/n1_slurmstepd.scope/berth");
  CHECK(make_cgroup_outside_jobs("/job_7/step_0") == "/berth");
}

TEST_CASE("only a Slurm step's control group is left") {
  CHECK(make_cgroup_outside_jobs("/") == std::nullopt);
  CHECK(make_cgroup_outside_jobs("/user.slice/user-1000.slice/session-1.scope") == std::nullopt);
  CHECK(make_cgroup_outside_jobs("/system.slice/job_scheduler/worker") == std::nullopt);
  CHECK(make_cgroup_outside_jobs("/system.slice/slurmstepd.scope/system") == std::nullopt);
  CHECK(make_cgroup_outside_jobs("/system.slice/slurmstepd.scope/job_7") == std::nullopt);
}

TEST_CASE("a control group says which step of Slurm a process belongs to") {
  CHECK(parse_slurm_cgroup("/slurm/uid_1000/job_7/step_2/task_0") == SlurmStepId{7, 2, ""});
  CHECK(parse_slurm_cgroup("/slurm_n1/uid_0/job_7/step_batch") == SlurmStepId{7, berth::kBatchStep, "n1"});
  CHECK(parse_slurm_cgroup("/system.slice/slurmstepd.scope/job_7/step_extern/user/task_0") ==
        SlurmStepId{7, berth::kExternStep, ""});
  CHECK(parse_slurm_cgroup("/system.slice/n1_slurmstepd.scope/job_70/step_interactive") ==
        SlurmStepId{70, berth::kInteractiveStep, "n1"});
}

TEST_CASE("other control groups belong to no step of Slurm") {
  for (const char* path : {"/", "/job_7", "/job_x/step_0", "/job_7/step_x", "/job_7x/step_0", "/job_7/0",
                           "/job_/step_0", "/job_99999999999/step_0", "/user.slice/session-1.scope"})
    CHECK(parse_slurm_cgroup(path) == std::nullopt);
}
