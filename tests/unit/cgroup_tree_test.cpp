#include "launcher/system/cgroup_tree.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace berth;

TEST_CASE("The cgroup of a process, in both versions", "[cgroup]") {
  const std::string hybrid =
      "9:name=systemd:/user\n5:devices:/slurm/uid_0/job_1\n3:cpu,cpuacct:/a:b\n0::/system.slice/slurmd.service\n";
  CHECK(parse_cgroup(hybrid, "") == "/system.slice/slurmd.service");
  CHECK(parse_cgroup(hybrid, "devices") == "/slurm/uid_0/job_1");
  CHECK(parse_cgroup(hybrid, "cpuacct") == "/a:b");
  CHECK(parse_cgroup(hybrid, "rdma") == std::nullopt);
  CHECK(parse_cgroup("5:devices:/\n", "") == std::nullopt);
  CHECK(parse_cgroup("0::/\n", "") == "/");
  CHECK(parse_cgroup("", "") == std::nullopt);
}

TEST_CASE("A cgroup and those above it", "[cgroup]") {
  using Paths = std::vector<std::string>;
  CHECK(cgroup_ancestry("/") == Paths{"/"});
  CHECK(cgroup_ancestry("/a") == Paths{"/", "/a"});
  CHECK(cgroup_ancestry("/a/b/c") == Paths{"/", "/a", "/a/b", "/a/b/c"});
  CHECK(cgroup_child("/", "x") == "/x");
  CHECK(cgroup_child("/a", "x") == "/a/x");
}
