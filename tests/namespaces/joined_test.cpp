// Several devices of one rank: all in the netns of the first, each with a record and a lock of its own.
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <sstream>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using namespace std::chrono_literals;
using berth::testing::BerthSite;
using berth::testing::Child;

namespace {

struct Joined : BerthSite {
  /// A macvlan, and a moved device and another macvlan that join it.
  static std::vector<BerthSpec> specs() {
    std::vector<BerthSpec> all{macvlan(0), moved_device(), macvlan(1)};
    for (std::size_t i = 1; i < all.size(); ++i) {
      all[i].joins = all[0].id;
      all[i].park = Park::never;
      all[i].interface = fmt::format("rdma{}", i);
    }
    return all;
  }

  std::vector<HeldBerth> take() {
    std::vector<HeldBerth> berths = park(journal, claim(journal, specs()));
    for (HeldBerth& berth : berths) lease(journal, berth, owner(4711));
    return berths;
  }

  /// A broker that is killed while it holds all three, with a rank in the netns that lives on.
  void crash() {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      try {
        const auto berths = take();
        kill(getpid(), SIGKILL);
      } catch (...) {
        _exit(1);
      }
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFSIGNALED(status));
  }

  static std::vector<std::string> names_in(const UniqueFd& netns) {
    std::vector<std::string> names;
    for (const Link& link : LinkSocket::in_netns(netns).list()) names.push_back(link.name);
    std::ranges::sort(names);
    return names;
  }

  void check_removable() {
    unpark(journal, macvlan(0).id);
    check_home();
    check_nothing_left();
  }
};

const std::vector<std::string> kAlone{"lo", "rdma0"};

/// Two macvlans, from `first` on, the second in the netns of the first.
std::vector<BerthSpec> two_macvlans(unsigned first) {
  std::vector<BerthSpec> specs{BerthSite::macvlan(first), BerthSite::macvlan(first + 1)};
  specs[1].joins = specs[0].id;
  specs[1].park = Park::never;
  specs[1].interface = "rdma1";
  return specs;
}

/// What the interfaces of a netns have sent, in bytes.
std::uint64_t read_sent(const UniqueFd& netns, const std::string& interface) {
  const NetnsGuard inside(netns);
  const std::string text = read_file(AT_FDCWD, "/proc/thread-self/net/dev");
  std::istringstream numbers(text.substr(text.find(interface + ":") + interface.size() + 1));
  std::uint64_t number = 0;
  for (int column = 0; column < 9; ++column) numbers >> number;  // eight of what was received come first
  return number;
}

/// A TCP socket that uses this interface of `netns` and no other.
UniqueFd make_bound_socket(const UniqueFd& netns, const std::string& interface) {
  const NetnsGuard inside(netns);
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(socket);
  REQUIRE(setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(),
                     static_cast<socklen_t>(interface.size())) == 0);
  const timeval patience{10, 0};
  for (const int direction : {SO_RCVTIMEO, SO_SNDTIMEO})
    REQUIRE(setsockopt(socket.get(), SOL_SOCKET, direction, &patience, sizeof patience) == 0);
  return socket;
}

sockaddr_in address_of(const BerthSpec& spec) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(7777);
  std::copy_n(spec.addresses.front().bytes.begin(), 4, reinterpret_cast<unsigned char*>(&address.sin_addr));
  return address;
}

}  // namespace

TEST_CASE_METHOD(Joined, "a rank's further devices move into the berth of the first, and home at release") {
  const bool was_parked = GENERATE(false, true);
  std::uint64_t inode = 0;
  if (was_parked) {
    inode = park(journal, macvlan(0)).record.netns_inode;
    park(journal, moved_device());  // in a berth of its own
  }
  std::vector<HeldBerth> berths = take();
  if (was_parked) CHECK(berths[0].record.netns_inode == inode);
  inode = berths[0].record.netns_inode;
  CHECK(names_in(berths[0].netns) == std::vector<std::string>{"lo", "rdma0", "rdma1", "rdma2"});
  for (const HeldBerth& berth : berths) {
    CHECK(netns_inode(berth.netns) == inode);
    CHECK(journal.read(berth.record.berth.id) == berth.record);
    CHECK(journal.is_locked(berth.record.berth.id));
    LinkSocket inside = LinkSocket::in_netns(berth.netns);
    const Link link = inside.get(berth.record.berth.interface);
    CHECK(link.running);
    CHECK(inside.addresses(link) == berth.record.berth.addresses);
  }
  CHECK(berths[0].record.joined == std::vector<std::string>{specs()[1].id, specs()[2].id});
  CHECK(repair(journal).empty());
  {
    const NetnsGuard inside(berths[0].netns);
    CHECK(read_file(AT_FDCWD, "/proc/sys/net/ipv4/conf/all/arp_ignore") == "1\n");
  }

  static int netns;
  netns = berths[0].netns.get();
  Child leftover([] { setns(netns, CLONE_NEWNET); });
  CHECK(release(journal, std::move(berths)) == std::vector<std::string>{"emptied", "brought home", "brought home"});
  CHECK(leftover.was_killed());
  check_home();
  CHECK(journal.ids() == std::vector<std::string>{macvlan(0).id});
  {
    const HeldBerth again = park(journal, macvlan(0));
    CHECK(again.record.netns_inode == inode);
    CHECK(names_in(again.netns) == kAlone);
  }
  check_removable();
}

TEST_CASE_METHOD(BerthSite, "TCP goes over a rank's second device where the program says so") {
  const std::vector<BerthSpec> specs[] = {two_macvlans(0), two_macvlans(2)};
  std::vector<HeldBerth> ranks[] = {park(journal, claim(journal, specs[0])), park(journal, claim(journal, specs[1]))};
  const UniqueFd& client_netns = ranks[0][0].netns;
  const UniqueFd& server_netns = ranks[1][0].netns;

  constexpr std::size_t kSent = std::size_t{1} << 20U;
  {
    const UniqueFd listener = make_bound_socket(server_netns, "rdma1");
    const sockaddr_in address = address_of(specs[1][1]);
    REQUIRE(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(listener.get(), 1) == 0);
    const UniqueFd client = make_bound_socket(client_netns, "rdma1");
    REQUIRE(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    const UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(server);
    std::vector<char> chunk(16384);
    for (std::size_t sent = 0; sent < kSent; sent += chunk.size()) {
      REQUIRE(write(client.get(), chunk.data(), chunk.size()) == static_cast<ssize_t>(chunk.size()));
      REQUIRE(recv(server.get(), chunk.data(), chunk.size(), MSG_WAITALL) == static_cast<ssize_t>(chunk.size()));
    }
  }
  CHECK(read_sent(client_netns, "rdma1") > kSent);
  CHECK(read_sent(client_netns, "rdma0") < kSent / 16);
  CHECK(read_sent(server_netns, "rdma1") > kSent / 1000);  // acknowledgements
  for (std::vector<HeldBerth>& berths : ranks) {
    const std::string first = berths.front().record.berth.id;
    release(journal, std::move(berths));
    unpark(journal, first);
  }
  check_nothing_left();
}

TEST_CASE_METHOD(Joined, "what a killed broker left joined is parted before anything of it is used again") {
  crash();
  std::unique_ptr<Child> rank;
  {
    static UniqueFd netns;
    netns = std::move(*open_pinned_netns(journal.netns_path(macvlan(0).id)));
    rank = std::make_unique<Child>([] { setns(netns.get(), CLONE_NEWNET); });
    netns.reset();
  }
  SECTION("by repair") {
    CHECK(repair(journal).size() == 3);
    CHECK(repair(journal).empty());
  }
  SECTION("by repair of the job") {
    CHECK(repair(journal, 99U).empty());
    CHECK(repair(journal, 4711U).size() == 3);
    CHECK(repair(journal).empty());
  }
  SECTION("by whoever wants the first device alone") {
    const HeldBerth berth = park(journal, macvlan(0));
    CHECK(names_in(berth.netns) == kAlone);
    CHECK(berth.record.joined.empty());
    check_home();
  }
  SECTION("by whoever wants a further device alone") {
    {
      const HeldBerth berth = park(journal, moved_device());
      CHECK(names_in(berth.netns) == kAlone);
    }
    unpark(journal, moved_device().id);
    repair(journal);
  }
  SECTION("but not behind the back of who holds the berth") {
    {
      const auto lock = journal.try_lock_device(macvlan(0).id);
      CHECK(testing::error_of([&] { park(journal, moved_device()); }).code == ErrorCode::busy);
      CHECK_THROWS_AS(unpark(journal, moved_device().id), Error);
      CHECK(repair(journal).empty());
      CHECK(rank->is_alive());
    }
    repair(journal);
  }
  SECTION("by whoever wants all of them again") {
    std::vector<HeldBerth> berths = take();
    CHECK(names_in(berths[0].netns).size() == 4);
    release(journal, std::move(berths));
  }
  SECTION("by the administrator") {
    unpark(journal, macvlan(0).id);
    check_home();
    park(journal, macvlan(0));
  }
  CHECK(rank->was_killed());
  CHECK(names_in(*open_pinned_netns(journal.netns_path(macvlan(0).id))) == kAlone);
  check_removable();
}

TEST_CASE_METHOD(Joined, "if one of several devices cannot be had, the others are as before") {
  park(journal, macvlan(0));
  std::vector<BerthSpec> all = specs();
  all[2].mtu = 9000;  // more than the parent has
  CHECK_THROWS_AS(park(journal, claim(journal, all)), Error);
  CHECK(journal.ids() == std::vector<std::string>{macvlan(0).id});
  CHECK(journal.read(macvlan(0).id)->phase == Phase::parked);
  CHECK(names_in(*open_pinned_netns(journal.netns_path(macvlan(0).id))) == kAlone);
  CHECK(repair(journal).empty());
  check_removable();
}

TEST_CASE_METHOD(Joined, "kill -9 at a random moment with several devices leaves nothing that repair cannot finish") {
  constexpr int kKills = 25;
  for (int i = 0; i < kKills; ++i) {
    INFO("kill " << i);
    // Spread over a whole cycle, and denser at its beginning.
    testing::kill_while_repeating([&] { release(journal, take()); }, 300us * (i * i + 1));
    for (const Repair& done : repair(journal)) {
      INFO(done.id << " " << done.action);
      CHECK_FALSE(done.action.starts_with("quarantined"));
    }
    CHECK_FALSE(journal.read(moved_device().id));
    check_home();
    if (const auto record = journal.read(macvlan(0).id)) CHECK(record->joined.empty());
  }
  park(journal, macvlan(0));
  check_removable();
}
