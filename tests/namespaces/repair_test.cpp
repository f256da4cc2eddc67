// kill -9 at any point: what is left in the journal and the kernel is finished by whoever comes next.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <filesystem>
#include <fstream>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using namespace std::chrono_literals;
using berth::testing::BerthSite;
using berth::testing::Child;
using berth::testing::run;

namespace {

struct Crash : BerthSite {
  static BerthSpec spec_of(PoolKind kind) { return kind == PoolKind::macvlan ? macvlan(0) : moved_device(); }

  /// Parks, then makes the record say something else, as if the process had died in that phase.
  LeaseRecord pretend(const BerthSpec& spec, Phase phase) {
    LeaseRecord record = park(journal, spec).record;
    record.phase = phase;
    if (phase == Phase::parking) record.netns_inode = 0;
    if (phase == Phase::leased || phase == Phase::releasing) record.owner = owner(4711);
    journal.write(record);
    return record;
  }

  void check_repaired(const std::string& id, const std::string& action) {
    const auto repairs = repair(journal);
    REQUIRE(repairs.size() == 1);
    CHECK(repairs[0].id == id);
    CHECK(repairs[0].action == action);
    CHECK(repair(journal).empty());
  }

  void check_usable_and_removable(const BerthSpec& spec) {
    CHECK(LinkSocket::in_netns(park(journal, spec).netns).find("rdma0")->running);
    unpark(journal, spec.id);
    if (spec.kind == PoolKind::sriov) check_home();
    check_nothing_left();
  }
};

}  // namespace

TEST_CASE_METHOD(Crash, "a process that dies while parking or unparking is finished by repair, or by the next one") {
  const PoolKind kind = GENERATE(PoolKind::macvlan, PoolKind::sriov);
  const Phase phase = GENERATE(Phase::parking, Phase::unparking);
  const bool by_repair = GENERATE(true, false);
  const BerthSpec spec = spec_of(kind);
  INFO("kind " << static_cast<int>(kind) << " phase " << static_cast<int>(phase) << " repair " << by_repair);

  SECTION("everything in place") { pretend(spec, phase); }
  SECTION("before the first change") {
    LeaseRecord record = pretend(spec, phase);
    unpark(journal, spec.id);
    record.netns_inode = 0;
    journal.write(record);
  }
  SECTION("netns pinned, device still on the host") {
    LeaseRecord record = pretend(spec, phase);
    unpark(journal, spec.id);
    const UniqueFd netns = create_netns();
    pin_netns(netns, journal.netns_path(spec.id));
    journal.write(record);
  }
  SECTION("pin file made, nothing mounted on it") {
    LeaseRecord record = pretend(spec, phase);
    unpark(journal, spec.id);
    std::ofstream(journal.netns_path(spec.id)) << "";
    journal.write(record);
  }
  SECTION("device in, neither addressed nor up") {
    pretend(spec, phase);
    const auto netns = open_pinned_netns(journal.netns_path(spec.id));
    REQUIRE(netns);
    LinkSocket inside = LinkSocket::in_netns(*netns);
    REQUIRE(inside.find("rdma0"));
    const Link link = *inside.find("rdma0");
    for (const IpPrefix& address : inside.addresses(link)) inside.remove_address(link, address);
    inside.change(link, {.up = false});
  }
  SECTION("device back on the host, but not as it was") {
    LeaseRecord record = pretend(spec, phase);
    unpark(journal, spec.id);
    if (kind == PoolKind::sriov) run("ip link set vf0 down mtu 1300 && ip addr flush dev vf0");
    journal.write(record);
  }
  SECTION("a process inside") {
    pretend(spec, phase);
    const auto netns = open_pinned_netns(journal.netns_path(spec.id));
    static int inside;
    inside = netns->get();
    Child child([] { setns(inside, CLONE_NEWNET); });
    if (by_repair) check_repaired(spec.id, "brought home");
    check_usable_and_removable(spec);
    CHECK(child.was_killed());
    return;
  }
  if (by_repair) check_repaired(spec.id, "brought home");
  check_usable_and_removable(spec);
}

TEST_CASE_METHOD(Crash, "a lease whose holder died is emptied by repair, or by the next one") {
  const PoolKind kind = GENERATE(PoolKind::macvlan, PoolKind::sriov);
  const Phase phase = GENERATE(Phase::leased, Phase::releasing);
  const bool by_repair = GENERATE(true, false);
  const BerthSpec spec = spec_of(kind);
  INFO("kind " << static_cast<int>(kind) << " phase " << static_cast<int>(phase) << " repair " << by_repair);
  const LeaseRecord record = pretend(spec, phase);
  CHECK_FALSE(journal.held_devices(true)[0].leased);

  SECTION("with a rank that lives on") {
    static UniqueFd netns;
    netns = std::move(*open_pinned_netns(journal.netns_path(spec.id)));
    Child rank([] { setns(netns.get(), CLONE_NEWNET); });
    netns.reset();
    if (by_repair) {
      CHECK(repair(journal, 99U).empty());
      CHECK(repair(journal, 4711U).at(0).action == "emptied");
      CHECK(repair(journal).empty());
    }
    const HeldBerth berth = park(journal, spec);
    CHECK(berth.record.phase == Phase::parked);
    CHECK_FALSE(berth.record.owner);
    CHECK(berth.record.netns_inode == record.netns_inode);
    CHECK(rank.was_killed());
  }
  SECTION("with a socket that is held elsewhere") {
    const auto netns = open_pinned_netns(journal.netns_path(spec.id));
    UniqueFd held;
    {
      const NetnsGuard inside(*netns);
      held.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    }
    if (by_repair) check_repaired(spec.id, "rebuilt");
    CHECK(park(journal, spec).record.netns_inode != record.netns_inode);
    CHECK_FALSE(LinkSocket::in_netns(*netns).find("rdma0"));
  }
  SECTION("with its pin lost") {
    static UniqueFd netns;
    netns = std::move(*open_pinned_netns(journal.netns_path(spec.id)));
    Child rank([] { setns(netns.get(), CLONE_NEWNET); });
    netns.reset();
    unpin_netns(journal.netns_path(spec.id));
    if (by_repair) check_repaired(spec.id, "brought home");
    check_usable_and_removable(spec);
    CHECK(rank.was_killed());
    return;
  }
  check_usable_and_removable(spec);
}

TEST_CASE_METHOD(Crash, "whoever has got the number of a berth's netns after its death is left alone") {
  LeaseRecord record = pretend(macvlan(0), Phase::unparking);
  unpark(journal, macvlan(0).id);
  const UniqueFd other = create_netns();
  Child innocent([&] { setns(other.get(), CLONE_NEWNET); });
  record.netns_inode = netns_inode(other);
  journal.write(record);
  SECTION("by repair") { check_repaired(macvlan(0).id, "brought home"); }
  SECTION("by parking") { park(journal, macvlan(0)); }
  CHECK_FALSE(innocent.was_killed());
  CHECK(innocent.is_alive());
}

TEST_CASE_METHOD(Crash, "traces that mean nothing are swept away") {
  LeaseRecord record = park(journal, macvlan(0)).record;
  const UniqueFd netns = create_netns();
  SECTION("a record of another boot") {
    unpark(journal, macvlan(0).id);
    record.boot_id = "11111111-2222-3333-4444-555555555555";
    journal.write(record);
    SECTION("by repair") { check_repaired(macvlan(0).id, "forgotten"); }
    SECTION("by parking") { park(journal, macvlan(0)); }
  }
  SECTION("a pin and a lock file without a record") {
    pin_netns(netns, journal.netns_path("ghost"));
    CHECK(journal.try_lock_device("ghost"));
    check_repaired("ghost", "forgotten");
  }
  SECTION("a record that was being written") {
    const std::string half = journal.state_directory() + "/leases/eth9.mv1.12345.new";
    std::ofstream(half) << "{";
    repair(journal);
    CHECK_FALSE(std::filesystem::exists(half));
  }
  SECTION("but an unreadable record is kept") {
    std::ofstream(journal.state_directory() + "/leases/torn") << "{";
    const auto repairs = repair(journal);
    REQUIRE(repairs.size() == 1);
    CHECK(repairs[0].action.starts_with("quarantined: "));
    CHECK(journal.read("torn")->phase == Phase::quarantined);
    CHECK_THROWS_AS(unpark(journal, "torn"), Error);
    CHECK(std::filesystem::file_size(journal.state_directory() + "/leases/torn") == 1);
    CHECK(journal.try_lock_device("torn"));
    std::filesystem::remove(journal.state_directory() + "/leases/torn");
    repair(journal);
  }
  if (journal.read(macvlan(0).id)) unpark(journal, macvlan(0).id);
  check_nothing_left();
}

TEST_CASE_METHOD(Crash, "two repairs at once do not disturb each other, nor those who work") {
  for (unsigned i = 0; i < 6; ++i) pretend(macvlan(i), i % 2 ? Phase::leased : Phase::parking);
  const HeldBerth working = park(journal, macvlan(6));
  CHECK(testing::count_successes(3, [&](int) {
          for (int round = 0; round < 5; ++round)
            for (const Repair& done : repair(journal))
              if (done.action != "emptied" && done.action != "brought home") return false;
          return true;
        }) == 3);
  for (unsigned i = 0; i < 6; ++i) CHECK(journal.read(macvlan(i).id).has_value() == (i % 2 == 1));
  CHECK(journal.read(working.record.berth.id) == working.record);
}

TEST_CASE_METHOD(Crash, "kill -9 at a random moment of a berth's life leaves nothing that repair cannot finish") {
  const PoolKind kind = GENERATE(PoolKind::macvlan, PoolKind::sriov);
  const BerthSpec spec = spec_of(kind);
  constexpr int kKills = 25;
  for (int i = 0; i < kKills; ++i) {
    INFO("kill " << i);
    const auto live = [&, round = 0]() mutable {
      HeldBerth berth = park(journal, spec);
      lease(journal, berth, owner(1));
      release(journal, std::move(berth));
      if (round++ % 2 == 1) unpark(journal, spec.id);
    };
    // Spread over a whole cycle, which takes some 100 ms, and denser at its beginning.
    testing::kill_while_repeating(live, 150us * (i * i + 2));
    for (const Repair& done : repair(journal)) {
      INFO(done.action);
      CHECK_FALSE(done.action.starts_with("quarantined"));
    }
    const auto record = journal.read(spec.id);
    CHECK((!record || record->phase == Phase::parked));
  }
  check_usable_and_removable(spec);
}
