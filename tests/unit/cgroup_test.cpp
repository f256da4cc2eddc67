#include "launcher/system/cgroup.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/values.hpp"

using berth::make_step_cgroups;
using berth::parse_slurm_cgroup;
using berth::SlurmStepId;
using berth::StepCgroups;

TEST_CASE("the broker's control group is beside the job's, that of its helpers in it") {
  const std::string scope = "/system.slice/slurmstepd.scope";
  CHECK(make_step_cgroups(scope + "/job_7/step_0/slurm", 4711) ==
        StepCgroups{scope + "/berth", scope + "/job_7/berth-4711"});
  CHECK(make_step_cgroups(scope + "/job_7/step_batch/user/task_0", 4711) ==
        StepCgroups{scope + "/berth", scope + "/job_7/berth-4711"});
  CHECK(make_step_cgroups("/job_7/step_12", 4711) == StepCgroups{"/berth", "/job_7/berth-4711"});
}

TEST_CASE("only a Slurm step's control group is left") {
  for (const char* path : {"/", "/user.slice/user-1000.slice/session-1.scope", "/system.slice/job_scheduler/worker",
                           "/system.slice/slurmstepd.scope/system", "/system.slice/slurmstepd.scope/job_7"})
    CHECK(make_step_cgroups(path, 4711) == std::nullopt);
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
