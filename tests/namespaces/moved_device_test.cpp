// Devices that exist and are moved, as VFs are; one end of a veth pair stands in for the VF.
#include <fcntl.h>
#include <sys/socket.h>

#include <catch2/catch_test_macros.hpp>
#include <optional>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using berth::testing::BerthSite;
using berth::testing::run;

namespace {

struct HostView {
  Link link;
  std::vector<IpPrefix> addresses;
  std::vector<IpPrefix> without_broadcast;
  bool operator==(const HostView&) const = default;
};

std::optional<HostView> read_host_view() {
  LinkSocket host;
  auto link = host.find("vf0");
  if (!link) return std::nullopt;
  HostView view{*link, {}, {}};
  view.addresses = host.addresses(*link, &view.without_broadcast);
  return view;
}

}  // namespace

TEST_CASE_METHOD(BerthSite, "a device is parked under its new name and comes home exactly as it was") {
  for (const bool up : {true, false}) {
    INFO("up " << up);
    if (!up) run("ip link set vf0 down");
    const auto before = read_host_view();
    REQUIRE(before);
    REQUIRE(before->link.up == up);
    {
      const HeldBerth berth = park(journal, moved_device());
      CHECK_FALSE(read_host_view());
      const OriginalState& original = berth.record.original;
      CHECK(original.name == "vf0");
      CHECK(original.mac == before->link.mac);
      CHECK(original.mtu == 1480);
      CHECK(original.up == up);
      CHECK(original.addresses == before->addresses);
      LinkSocket inside = LinkSocket::in_netns(berth.netns);
      const auto link = inside.find("rdma0");
      REQUIRE(link);
      CHECK(link->mac == before->link.mac);
      CHECK(link->mtu == 1400);
      CHECK(link->running);
      CHECK(inside.addresses(*link) == moved_device().addresses);
      CHECK(journal.held_devices(true)[0].parked);
    }
    const auto inode = journal.read("vf-stand-in")->netns_inode;
    CHECK(netns_inode(park(journal, moved_device()).netns) == inode);
    unpark(journal, "vf-stand-in");
    CHECK(read_host_view() == before);
    check_nothing_left();
  }
}

TEST_CASE_METHOD(BerthSite, "a device can keep the addresses that it had on the host") {
  BerthSpec spec = moved_device();
  spec.inherit_addresses = true;
  spec.addresses.clear();
  spec.mtu.reset();
  const auto before = read_host_view();
  const HeldBerth berth = park(journal, spec);
  LinkSocket inside = LinkSocket::in_netns(berth.netns);
  CHECK(inside.addresses(*inside.find("rdma0")) == before->addresses);
  CHECK(inside.find("rdma0")->mtu == 1480);
}

TEST_CASE_METHOD(BerthSite, "a moved device leaves a netns that somebody still has a socket in") {
  const auto before = read_host_view();
  HeldBerth berth = park(journal, moved_device());
  lease(journal, berth, owner(1));
  const UniqueFd old(fcntl(berth.netns.get(), F_DUPFD_CLOEXEC, 0));
  UniqueFd held;
  {
    const NetnsGuard inside(old);
    held.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  CHECK(release(journal, std::move(berth)) == "rebuilt");
  CHECK_FALSE(LinkSocket::in_netns(old).find("rdma0"));
  {
    const HeldBerth next = park(journal, moved_device());
    CHECK(netns_inode(next.netns) != netns_inode(old));
    CHECK(LinkSocket::in_netns(next.netns).find("rdma0"));
    CHECK(next.record.original.addresses == before->addresses);
  }
  unpark(journal, "vf-stand-in");
  CHECK(read_host_view() == before);
}

TEST_CASE_METHOD(BerthSite, "a device that is used once goes home at its release") {
  BerthSpec spec = moved_device();
  spec.park = Park::never;
  const auto before = read_host_view();
  HeldBerth berth = park(journal, spec);
  lease(journal, berth, owner(1));
  CHECK(release(journal, std::move(berth)) == "brought home");
  CHECK(read_host_view() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a whole NIC is a rank's own, and the host's again after it") {
  BerthSpec spec = moved_device();
  spec.kind = PoolKind::pf;
  spec.id = spec.parent;
  spec.park = Park::never;
  const auto before = read_host_view();
  HeldBerth berth = park(journal, spec);
  lease(journal, berth, owner(1));
  CHECK_FALSE(read_host_view());
  CHECK(LinkSocket::in_netns(berth.netns).find("rdma0"));
  CHECK(release(journal, std::move(berth)) == "brought home");
  CHECK(read_host_view() == before);
  // As after the death of its broker.
  {
    HeldBerth left = park(journal, spec);
    lease(journal, left, owner(2));
  }
  CHECK(repair(journal).at(0).action == "brought home");
  CHECK(read_host_view() == before);
  check_nothing_left();

  run("ip route add default via 192.168.77.1 dev vf0");
  CHECK(testing::error_of([&] { park(journal, spec); }).why.find("default route") != std::string::npos);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a device that cannot come home is quarantined until it can") {
  const auto before = read_host_view();
  park(journal, moved_device());
  run("ip link add vf0 type veth peer name taken0");
  CHECK_THROWS_AS(unpark(journal, "vf-stand-in"), Error);
  const auto record = journal.read("vf-stand-in");
  REQUIRE(record);
  CHECK(record->phase == Phase::quarantined);
  CHECK(record->reason.find("taken its name") != std::string::npos);
  CHECK(journal.held_devices(true)[0].quarantined == record->reason);
  const Error error = testing::error_of([&] { park(journal, moved_device()); });
  CHECK(error.code == ErrorCode::host);
  CHECK(error.why.find("quarantined") != std::string::npos);
  auto repairs = repair(journal);
  REQUIRE(repairs.size() == 1);
  CHECK(repairs[0].action.starts_with("quarantined: "));
  run("ip link del vf0");
  repairs = repair(journal);
  REQUIRE(repairs.size() == 1);
  CHECK(repairs[0].action == "brought home");
  CHECK(read_host_view() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a device that the kernel gave back under another name is found") {
  const auto before = read_host_view();
  park(journal, moved_device());
  {
    const auto netns = open_pinned_netns(journal.netns_path("vf-stand-in"));
    const UniqueFd home = open_current_netns();
    LinkSocket inside = LinkSocket::in_netns(*netns);
    inside.change(*inside.find("rdma0"), {.netns = home.get()});
  }
  run("ip link add vf0 type veth peer name taken0");
  CHECK_THROWS_AS(unpark(journal, "vf-stand-in"), Error);
  CHECK(repair(journal).at(0).action.starts_with("quarantined: "));
  run("ip link del vf0");
  CHECK(repair(journal).at(0).action == "brought home");
  CHECK(read_host_view() == before);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a device that has vanished is said to have vanished") {
  BerthSpec spec = moved_device();
  spec.parent = "vf7";
  CHECK(testing::error_of([&] { park(journal, spec); }).what_text.find("vf7") != std::string::npos);
  check_nothing_left();
  park(journal, moved_device());
  run("ip link del wire0");
  CHECK(testing::error_of([&] { unpark(journal, "vf-stand-in"); }).what_text.find("vf0") != std::string::npos);
  CHECK(journal.read("vf-stand-in")->phase == Phase::quarantined);
}
