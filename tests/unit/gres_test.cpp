#include "launcher/core/gres.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "launcher/broker/slurm_job.hpp"
#include "launcher/core/plan.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using Texts = std::vector<std::string>;

namespace {

PlanInput counted_input(unsigned ranks, const std::string& gres) {
  PlanInput input = two_socket_input(ranks);
  input.policy.pools[0].gres = "vf";
  input.job = 7;
  input.gres = parse_gres(gres);
  return input;
}

Texts taken(const NodePlan& plan) {
  Texts ids;
  for (const BerthSpec& berth : plan.berths) ids.push_back(berth.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

Texts lines_of(const Pool& pool, const Inventory& inventory) {
  Texts texts;
  for (const GresLine& line : make_gres_lines(pool, inventory)) texts.push_back(to_string(line));
  return texts;
}

}  // namespace

TEST_CASE("What Slurm 22.05 says about generic resources, as recorded", "[gres]") {
  CHECK(parse_gres("").empty());
  CHECK(parse_gres("vf:2(IDX:0-1)") == std::vector<GresGrant>{{"vf", 2, CpuSet::range(0, 1)}});
  CHECK(parse_gres("vf:fast:3(IDX:0-2)") == std::vector<GresGrant>{{"vf", 3, CpuSet::range(0, 2)}});
  CHECK(parse_gres("vf(CNT:2)") == std::vector<GresGrant>{{"vf", 2, std::nullopt}});
}

TEST_CASE("Indexes may have holes, resources several types, and there may be others", "[gres]") {
  const auto grants = parse_gres("gpu:a100:1(IDX:3),vf:a:2(IDX:0,2),licence(CNT:5),vf:b:1(IDX:7)");
  REQUIRE(grants.size() == 3);
  CHECK(grants[0] == GresGrant{"gpu", 1, parse_cpu_list("3")});
  CHECK(grants[1] == GresGrant{"vf", 3, parse_cpu_list("0,2,7")});
  CHECK(grants[2] == GresGrant{"licence", 5, std::nullopt});
}

TEST_CASE("What is no list of resources is refused", "[gres]") {
  for (const char* text : {"vf", "vf:2", "vf:2(IDX:0-1", "vf:2(IDX:x)", "vf(CNT:)", "vf(CNT:-1)", "(IDX:0)",
                           "vf:1(ABC:0)", "vf:1(IDX:0)x", "vf:1(IDX:0);gpu:1(IDX:0)"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_gres(text), Error);
  }
}

TEST_CASE("A pool's lines of gres.conf follow the order of its devices", "[gres]") {
  Policy policy = two_pools();
  policy.pools[0].gres = "vf";
  CHECK(lines_of(policy.pools[0], two_socket_node()) ==
        Texts{"Name=vf File=/sys/bus/pci/devices/0000:3b:02.0,/sys/bus/pci/devices/0000:3b:02.1,"
              "/sys/bus/pci/devices/0000:3b:02.2,/sys/bus/pci/devices/0000:3b:02.3 Cores=0-7",
              "Name=vf File=/sys/bus/pci/devices/0000:af:02.0,/sys/bus/pci/devices/0000:af:02.1,"
              "/sys/bus/pci/devices/0000:af:02.2,/sys/bus/pci/devices/0000:af:02.3 Cores=8-15"});
  policy.pools[1].gres = "slow";
  CHECK(lines_of(policy.pools[1], two_socket_node()) ==
        Texts{"Name=slow File=/sys/class/net/eth0,/sys/class/net/eth0,/sys/class/net/eth0,/sys/class/net/eth0"});
}

TEST_CASE("Slurm wants cores for all devices or for none, and lines have an end", "[gres]") {
  Policy policy = two_pools();
  Pool& pool = policy.pools[1];
  pool.gres = "slow";
  pool.parents = {"eth0", "eth2"};  // eth0 is near to nothing in particular
  pool.berths_per_parent = 9;
  const auto lines = make_gres_lines(pool, two_socket_node());
  REQUIRE(lines.size() == 4);
  CHECK(lines[0].files.size() == 8);
  CHECK(lines[1].files == Texts{"/sys/class/net/eth0"});
  CHECK(to_string(lines[0].cores) == "0-15");
  CHECK(to_string(lines[2].cores) == "0-7");
}

TEST_CASE("A job gets the devices that Slurm gave it, and no others", "[gres]") {
  const NodePlan plan = make_plan(counted_input(2, "vf:3(IDX:1,6-7)"));
  for (const std::string& id : taken(plan))
    CHECK((id == "0000:3b:02.1" || id == "0000:af:02.2" || id == "0000:af:02.3"));
  CHECK(plan.berths.size() == 2);
  const auto refused = std::ranges::count(plan.rejected, "Slurm did not give it to this job", &Rejection::reason);
  CHECK(refused == 5);
  CHECK(taken(make_plan(counted_input(3, "vf:3(IDX:1,6-7)"))) == Texts{"0000:3b:02.1", "0000:af:02.2", "0000:af:02.3"});
}

TEST_CASE("A job without the resource, or with too little of it, is refused", "[gres]") {
  CHECK_THAT(refusal(counted_input(1, "")).render(),
             ContainsSubstring("asked for none of it on n2") && ContainsSubstring("submit the job with --gres=vf:N"));
  CHECK_THAT(refusal(counted_input(1, "gpu:1(IDX:0)")).render(), ContainsSubstring("asked for none of it"));
  CHECK_THAT(refusal(counted_input(4, "vf:2(IDX:0-1)")).render(),
             ContainsSubstring("Slurm gave the job 2 devices of \"vf\" on n2") && ContainsSubstring("--gres=vf:4"));
  CHECK_THAT(refusal(counted_input(1, "vf(CNT:2)")).render(), ContainsSubstring("but not which"));
  CHECK_THAT(refusal(counted_input(1, "vf:1(IDX:8)")).render(), ContainsSubstring("has only 8 devices"));
  PlanInput nobody_asked = counted_input(1, "");
  nobody_asked.gres.reset();
  CHECK_THAT(refusal(nobody_asked).render(), ContainsSubstring("asked for none of it"));
}

TEST_CASE("Ranks may share what Slurm gave", "[gres]") {
  PlanInput shared = counted_input(4, "vf:2(IDX:2-3)");
  shared.request.share = true;
  CHECK(taken(make_plan(shared)) == Texts{"0000:3b:02.2", "0000:3b:02.3"});
  PlanInput one = counted_input(4, "vf:1(IDX:5)");
  one.request.net = NetScope::node;
  CHECK(taken(make_plan(one)) == Texts{"0000:af:02.1"});
}

TEST_CASE("A device that Slurm gave and that another job still holds is not replaced by a free one", "[gres]") {
  PlanInput input = counted_input(1, "vf:1(IDX:0)");
  input.inventory.held.push_back({"0000:3b:02.0", true, true, "job 6.0 (bob)", "", 6});
  CHECK_THAT(refusal(input).render(), ContainsSubstring("job 6.0 (bob) holds 1"));
}

TEST_CASE("Pools that Slurm does not count, and plans without a job, are not limited", "[gres]") {
  PlanInput slow = counted_input(2, "");
  slow.request.pool = "slow";
  CHECK_NOTHROW(make_plan(slow));
  PlanInput no_job = counted_input(8, "");
  no_job.job = 0;
  no_job.gres.reset();
  CHECK_NOTHROW(make_plan(no_job));
}

TEST_CASE("What berth-slurm-job answers", "[gres]") {
  const SlurmJob job =
      parse_slurm_job(R"-({"account":"proj","gres":"vf:1(IDX:2)","cpus":"0-3","threads_per_core":2})-");
  CHECK(job.account == "proj");
  CHECK(job.gres == std::vector<GresGrant>{{"vf", 1, CpuSet::range(2, 2)}});
  CHECK(job.cpus == CpuSet::range(0, 3));
  CHECK(job.threads_per_core == 2);
  CHECK(parse_slurm_job(R"-({"account":"","gres":"","cpus":"","threads_per_core":0})-").gres.empty());
  for (const char* text : {"", "[]", R"-({"account":"x"})-", R"-({"account":"","gres":""})-",
                           R"-({"account":1,"gres":"","cpus":"","threads_per_core":1})-",
                           R"-({"account":"","gres":"x","cpus":"","threads_per_core":1})-",
                           R"-({"account":"","gres":"","cpus":"x","threads_per_core":1})-"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_slurm_job(text), Error);
  }
}
