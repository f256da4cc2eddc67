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
  SECTION("PRRTE's prterun, in a job") {
    const auto context = parse_launch_context({{"PRTE_LAUNCHED", "1"},
                                               {"PMIX_RANK", "3"},
                                               {"PMIX_NAMESPACE", "prterun-n1-284@1"},
                                               {"PMIX_SERVER_URI41", "prterun-n1-284@0.0;tcp4://127.0.0.1:4711"},
                                               {"SLURM_STEP_ID", "0"},
                                               {"SLURM_LOCALID", "0"},
                                               {"SLURM_PROCID", "0"},
                                               {"SLURM_STEP_TASKS_PER_NODE", "1"}});
    CHECK(context.launcher.empty());  // a run of its own
    CHECK(context.rank == 3);
    CHECK(context.local_size == 1);
    CHECK(context.pmix_uri == "prterun-n1-284@0.0;tcp4://127.0.0.1:4711");
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

TEST_CASE("the PMIx server is found by whatever version of PMIx it speaks") {
  using berth::find_pmix_server;
  CHECK(find_pmix_server({{"PMIX_RANK", "0"}, {"PMIX_SERVER_TMPDIR", "/tmp"}}).empty());
  CHECK(find_pmix_server({{"PMIX_SERVER_URI2", "two"}}) == "two");                                 // 2 and later
  CHECK(find_pmix_server({{"PMIX_SERVER_URI20", "new"}, {"PMIX_SERVER_URI61", "new"}}) == "new");  // 6
  CHECK(find_pmix_server({{"PMIX_SERVER_URI2", "outer"}, {"PMIX_SERVER_URI41", "inner"}, {"PMIX_VERSION", "5.0.7"}}) ==
        "inner");
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
