// Devices in a network namespace that is not Berth's: that of a container, whose processes are nobody's to kill.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <optional>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using berth::testing::BerthSite;
using berth::testing::Child;
using berth::testing::run;

namespace {

class ContainerSite : public BerthSite {
 public:
  ContainerSite() : netns(open(fmt::format("/proc/{}/ns/net", container.pid()).c_str(), O_RDONLY | O_CLOEXEC)) {
    REQUIRE(netns);
    REQUIRE(vf_on_host());
  }

  static LeaseOwner container_owner() {
    LeaseOwner owner = BerthSite::owner(0);
    owner.container = "web1";
    return owner;
  }
  HeldBerth place_in_container(const BerthSpec& spec) {
    return place(journal, std::move(claim(journal, {spec}).front()), netns, container_owner());
  }
  void run_inside(const std::string& command) {
    run(fmt::format("nsenter --net=/proc/{}/ns/net sh -c '{}'", container.pid(), command));
  }
  [[nodiscard]] LinkSocket inside() const { return LinkSocket::in_netns(netns); }
  static std::optional<Link> vf_on_host() { return LinkSocket().find("vf0"); }

  Child container{[] {
    if (unshare(CLONE_NEWNET) != 0) throw std::exception();
  }};
  UniqueFd netns;
};

}  // namespace

TEST_CASE_METHOD(ContainerSite, "a device is brought into a container's netns, and home without killing anybody") {
  const bool was_parked = GENERATE(false, true);
  const BerthSpec spec = GENERATE(moved_device(), macvlan(3));
  INFO(spec.id << " parked before: " << was_parked);
  const auto before = vf_on_host();
  if (was_parked) park(journal, spec);
  HeldBerth berth = place_in_container(spec);
  const auto link = inside().find("rdma0");
  REQUIRE(link);
  CHECK(link->up);
  CHECK(inside().addresses(*link) == spec.addresses);
  CHECK(berth.record.phase == Phase::leased);
  CHECK(journal.read(spec.id) == berth.record);
  CHECK(journal.held_devices(true).front().holder == "container web1 (alice)");
  CHECK(vf_on_host().has_value() == (spec.kind == PoolKind::macvlan));

  CHECK(release(journal, std::move(berth)) == "brought home");
  CHECK(container.is_alive());
  CHECK_FALSE(inside().find("rdma0"));
  CHECK(vf_on_host() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "repair brings home what a dead broker left in a living container") {
  const BerthSpec spec = GENERATE(moved_device(), macvlan(0));
  const auto before = vf_on_host();
  { const HeldBerth abandoned = place_in_container(spec); }
  SECTION("berth repair") {
    const auto repairs = repair(journal);
    REQUIRE(repairs.size() == 1);
    CHECK(repairs.front().action == "brought home");
  }
  SECTION("repair of this container") {
    CHECK(repair_container(journal, "web2").empty());
    CHECK(repair_container(journal, "web1").size() == 1);
  }
  SECTION("the next step") {
    CHECK(netns_inode(park(journal, spec).netns) != netns_inode(netns));
    unpark(journal, spec.id);
  }
  CHECK(container.is_alive());
  CHECK_FALSE(inside().find("rdma0"));
  CHECK(vf_on_host() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "a device comes home from a container that has died") {
  const BerthSpec spec = GENERATE(moved_device(), macvlan(0));
  const auto before = vf_on_host();
  HeldBerth berth = place_in_container(spec);
  container.kill();
  netns.reset();
  SECTION("by its broker") { CHECK(release(journal, std::move(berth)) == "brought home"); }
  SECTION("by repair") {
    { const HeldBerth dead = std::move(berth); }
    CHECK(repair(journal).size() == 1);
  }
  CHECK(vf_on_host() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "a container's root cannot hide a device from Berth by renaming it") {
  const BerthSpec spec = GENERATE(moved_device(), macvlan(0));
  const auto before = vf_on_host();
  HeldBerth berth = place_in_container(spec);
  run_inside("ip link set rdma0 down && ip link set rdma0 name other && ip link add rdma0 type veth peer name its");
  CHECK(release(journal, std::move(berth)) == "brought home");
  CHECK_FALSE(inside().find("other"));
  CHECK(inside().find("rdma0"));
  CHECK(vf_on_host() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "a name that the container has already is refused, and the device stays at home") {
  const BerthSpec spec = GENERATE(moved_device(), macvlan(0));
  const auto before = vf_on_host();
  run_inside("ip link add rdma0 type veth peer name its");
  const Error error = testing::error_of([&] { place_in_container(spec); });
  CHECK(error.code == ErrorCode::usage);
  CHECK(error.why == "the container has a network interface of this name");
  CHECK(vf_on_host() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "a container can have several devices") {
  std::vector<HeldBerth> berths;
  for (const unsigned index : {0U, 1U}) {
    BerthSpec spec = macvlan(index);
    spec.interface = fmt::format("eth{}", index + 1);
    berths.push_back(place_in_container(spec));
  }
  CHECK(inside().find("eth1"));
  CHECK(inside().find("eth2"));
  CHECK(release(journal, std::move(berths)) == std::vector<std::string>{"brought home", "brought home"});
  CHECK_FALSE(inside().find("eth1"));
  check_nothing_left();
}

TEST_CASE_METHOD(ContainerSite, "records of containers survive being written") {
  const HeldBerth berth = place_in_container(macvlan(0));
  CHECK(parse_lease_record(to_json_text(berth.record)) == berth.record);
  CHECK(berth.record.foreign_netns);
  CHECK(berth.record.netns_inode == netns_inode(netns));
}
