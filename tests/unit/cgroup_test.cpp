#include "launcher/system/cgroup.hpp"

#include <catch2/catch_test_macros.hpp>

using berth::make_cgroup_outside_jobs;

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
