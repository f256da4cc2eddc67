#include "launcher/core/slurm_cpus.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/error.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

std::string linux_cpus(const char* slurm_cpus, unsigned threads) {
  return to_string(choose_linux_cpus(two_sockets(), *parse_cpu_list(slurm_cpus), threads));
}

}  // namespace

TEST_CASE("Slurm numbers the threads of a core one after another, Linux may not", "[slurm_cpus]") {
  CHECK(linux_cpus("0-3", 2) == "0-1,16-17");
  CHECK(linux_cpus("17", 2) == "24");
  CHECK(linux_cpus("", 2).empty());
}

TEST_CASE("A core of which Slurm counts one thread is given as a whole", "[slurm_cpus]") {
  CHECK(linux_cpus("0,8", 1) == "0,8,16,24");
}

TEST_CASE("CPUs that the machine does not have are an error", "[slurm_cpus]") {
  CHECK_THROWS_AS(linux_cpus("32", 2), Error);
  CHECK_THROWS_AS(linux_cpus("16", 1), Error);
  CHECK_THROWS_AS(linux_cpus("0", 4), Error);
}
