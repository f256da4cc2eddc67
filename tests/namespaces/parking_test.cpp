// Several devices at once, and what a warm berth spares.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "launcher/broker/parallel.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/process.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using berth::testing::BerthSite;

namespace {

/// From now on a netlink socket costs this process its life.
void forbid_netlink() {
  constexpr auto kDomain = static_cast<unsigned>(offsetof(seccomp_data, args));
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kDomain),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    _exit(3);
}

int status_of(const std::function<void()>& body) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    forbid_netlink();
    try {
      body();
    } catch (...) {
      _exit(2);
    }
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return status;
}

}  // namespace

TEST_CASE("Every number gets its turn, once, whatever the number of threads") {
  for (const std::size_t count : {0U, 1U, 3U, 200U}) {
    std::vector<std::atomic<int>> turns(count);
    run_in_parallel(count, [&](std::size_t i) { ++turns[i]; });
    for (const auto& turn : turns) CHECK(turn == 1);
  }
}

TEST_CASE_METHOD(BerthSite, "leasing a warm berth and giving it back takes no netlink socket, so no RTNL lock") {
  std::vector<BerthSpec> specs;
  for (unsigned i = 0; i < 4; ++i) specs.push_back(macvlan(i));
  specs.push_back(moved_device());
  const auto use = [&] {
    const LeaseOwner user = owner(1);
    std::vector<HeldBerth> held = park(journal, claim(journal, specs, &user));
    for (HeldBerth& berth : held) lease(journal, berth, user);
    for (const std::string& action : release(journal, std::move(held)))
      if (action != "emptied") throw Error(ErrorCode::internal, action, "");
  };
  const int cold = status_of(use);
  CHECK((WIFSIGNALED(cold) && WTERMSIG(cold) == SIGSYS));  // the proof that the filter works
  repair(journal);
  park(journal, claim(journal, specs));
  CHECK(status_of(use) == 0);
}

TEST_CASE_METHOD(BerthSite, "many devices are parked at once, each in a netns of its own") {
  std::vector<BerthSpec> specs = {moved_device()};
  for (unsigned i = 0; i < 9; ++i) specs.push_back(macvlan(i));
  std::set<std::uint64_t> netns;
  {
    std::vector<HeldBerth> held = park(journal, claim(journal, specs));
    REQUIRE(held.size() == specs.size());
    for (std::size_t i = 0; i < held.size(); ++i) {
      CHECK(held[i].record.berth == specs[i]);
      CHECK(held[i].record.phase == Phase::parked);
      CHECK(LinkSocket::in_netns(held[i].netns).find("rdma0"));
      netns.insert(netns_inode(held[i].netns));
    }
    CHECK(netns.size() == specs.size());
    CHECK(release(journal, std::move(held)) == std::vector<std::string>(specs.size(), "emptied"));
  }
  for (const BerthSpec& spec : specs) unpark(journal, spec.id);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "one device that cannot be parked: none is held, none is harmed") {
  BerthSpec used_once = macvlan(0);
  used_once.park = Park::never;
  BerthSpec impossible = macvlan(2);
  impossible.parent = "fabric7";
  const Error error = testing::error_of([&] { park(journal, claim(journal, {used_once, macvlan(1), impossible})); });
  CHECK(error.what_text.find("fabric7") != std::string::npos);
  CHECK_FALSE(journal.read(used_once.id));
  CHECK(journal.read(macvlan(1).id)->phase == Phase::parked);
  CHECK_FALSE(journal.read(impossible.id));
  for (const HeldDevice& device : journal.held_devices(true)) CHECK_FALSE(device.leased);
  unpark(journal, macvlan(1).id);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a claimed device is somebody's, also before it has a record") {
  const LeaseOwner user = owner(4711);
  {
    const std::vector<Claim> claims = claim(journal, {macvlan(0), macvlan(1)}, &user);
    const auto held = journal.held_devices(true);
    REQUIRE(held.size() == 2);
    CHECK(held[1].leased);
    CHECK_FALSE(held[1].parked);
    CHECK(held[1].job == 4711);
    CHECK(held[1].holder == to_string(user));
    const Error error = testing::error_of([&] { claim(journal, {macvlan(2), macvlan(1)}); });
    CHECK(error.code == ErrorCode::busy);
    CHECK(error.why.find("job 4711.0 (alice)") != std::string::npos);
    CHECK(journal.try_lock_device(macvlan(2).id));
    CHECK(repair(journal).empty());
  }
  // Whoever locks it next is not taken for the one before.
  const auto lock = journal.try_lock_device(macvlan(0).id);
  CHECK(journal.held_devices(true).at(0).holder == "a process that is changing it");
  CHECK(journal.held_devices(true).at(0).job == 0);
}

TEST_CASE_METHOD(BerthSite, "a dead lease is emptied although its broker's pid is somebody else's now") {
  testing::Child innocent([] {});
  LeaseRecord record = park(journal, macvlan(0)).record;
  record.phase = Phase::leased;
  record.owner = owner(4711);
  record.owner->broker = {innocent.pid(), read_start_time(innocent.pid()) - 1};
  journal.write(record);
  CHECK(repair(journal).at(0).action == "emptied");
  CHECK(innocent.is_alive());
  CHECK_FALSE(innocent.was_killed());
}

TEST_CASE_METHOD(BerthSite, "PF locks keep others waiting, and are not taken for devices") {
  const PciAddress pf = parse_pci_address("0000:3b:00.0").value();
  std::optional<Lock> mine = journal.lock_pf(pf);
  const Lock of_another = journal.lock_pf(parse_pci_address("0000:3b:00.1").value());
  std::atomic<bool> released = false;
  bool waited = false;
  run_in_parallel(2, [&](std::size_t i) {
    if (i == 0) {
      const Lock theirs = journal.lock_pf(pf);
      waited = released;
    } else {
      released = true;
      mine.reset();
    }
  });
  CHECK(waited);
  CHECK(journal.traces().empty());
}
