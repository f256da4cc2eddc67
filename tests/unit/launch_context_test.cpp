#include "launcher/core/launch_context.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/error.hpp"

using berth::LaunchContext;
using berth::parse_launch_context;

TEST_CASE("a rank knows its launcher and its place") {
  SECTION("Open MPI") {
    const auto context = parse_launch_context({{"OMPI_COMM_WORLD_RANK", "5"},
                                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                               {"PMIX_NAMESPACE", "1234567"},
                                               {"PMIX_SERVER_URI2", "1234567.0;tcp4://127.0.0.1:4711"},
                                               // mpirun inside a job
                                               {"SLURM_STEP_ID", "0"},
                                               {"SLURM_LOCALID", "0"},
                                               {"SLURM_PROCID", "0"},
                                               {"SLURM_STEP_TASKS_PER_NODE", "1"}});
    CHECK(context == LaunchContext{.launcher = "mpirun",
                                   .rank = 5,
                                   .local_rank = 1,
                                   .local_size = 4,
                                   .run = "1234567",
                                   .pmix_uri = "1234567.0;tcp4://127.0.0.1:4711",
                                   .pmi_fd = ""});
  }
  SECTION("MPICH's Hydra") {
    const auto context = parse_launch_context(
        {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "3"}, {"MPI_LOCALNRANKS", "4"}, {"PMI_FD", "9"}});
    CHECK(context.launcher == "mpiexec");
    CHECK(context.rank == 3);
    CHECK(context.local_size == 4);
    CHECK(context.run.empty());
    CHECK(context.pmi_fd == "9");
  }
  SECTION("srun, on the third node") {
    const auto context = parse_launch_context({{"SLURM_JOB_ID", "7"},
                                               {"SLURM_STEP_ID", "1"},
                                               {"SLURM_PROCID", "9"},
                                               {"SLURM_LOCALID", "1"},
                                               {"SLURM_NODEID", "2"},
                                               {"SLURM_STEP_TASKS_PER_NODE", "4(x2),2"}});
    CHECK(context.launcher == "srun");
    CHECK(context.rank == 9);
    CHECK(context.local_size == 2);
    CHECK(context.run == "7.1");
  }
  SECTION("a batch script is no rank of srun's") {
    CHECK(parse_launch_context({{"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}) ==
          LaunchContext{});
  }
  SECTION("nobody") { CHECK(parse_launch_context({{"PATH", "/bin"}}) == LaunchContext{}); }
}

TEST_CASE("variables that make no sense are refused") {
  const auto with = [](const char* rank, const char* size) {
    return parse_launch_context(
        {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_RANK", rank}, {"OMPI_COMM_WORLD_LOCAL_SIZE", size}});
  };
  CHECK_THROWS_AS(with("4", "4"), berth::Error);
  CHECK_THROWS_AS(with("0", "0"), berth::Error);
  CHECK_THROWS_AS(with("0", "5000"), berth::Error);
  CHECK_THROWS_AS(with("-1", "4"), berth::Error);
  CHECK_THROWS_AS(with("0", "99999999999999999999"), berth::Error);
  CHECK_THROWS_AS(with("1x", "4"), berth::Error);
  CHECK_THROWS_AS(parse_launch_context({{"OMPI_COMM_WORLD_LOCAL_RANK", "0"}}), berth::Error);
}
