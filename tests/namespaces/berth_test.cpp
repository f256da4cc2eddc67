#include "launcher/broker/berth.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/polling.hpp"
#include "launcher/system/process.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using berth::testing::BerthSite;
using berth::testing::Child;
using berth::testing::run;

namespace {

/// A socket address of `prefix` and port 7000.
std::pair<sockaddr_storage, socklen_t> make_socket_address(const IpPrefix& prefix) {
  sockaddr_storage storage{};
  if (prefix.family == IpPrefix::Family::v4) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(7000);
    std::memcpy(&address.sin_addr, prefix.bytes.data(), 4);
    std::memcpy(&storage, &address, sizeof address);
    return {storage, sizeof address};
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(7000);
  std::memcpy(&address.sin6_addr, prefix.bytes.data(), 16);
  std::memcpy(&storage, &address, sizeof address);
  return {storage, sizeof address};
}

UniqueFd make_socket(const UniqueFd& netns, int family, int type) {
  const NetnsGuard inside(netns);
  return UniqueFd(socket(family, type | SOCK_CLOEXEC, 0));
}

/// Whether a TCP connection from berth `from` reaches `address` in berth `to` within two seconds.
bool can_connect(const UniqueFd& from, const UniqueFd& to, const IpPrefix& address) {
  const int family = address.family == IpPrefix::Family::v4 ? AF_INET : AF_INET6;
  const auto [name, length] = make_socket_address(address);
  const UniqueFd listener = make_socket(to, family, SOCK_STREAM);
  const int one = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0) return false;
  if (listen(listener.get(), 1) != 0) return false;
  const UniqueFd client = make_socket(from, family, SOCK_STREAM | SOCK_NONBLOCK);
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0 && errno != EINPROGRESS)
    return false;
  pollfd event{client.get(), POLLOUT, 0};
  int error = -1;
  socklen_t size = sizeof error;
  return poll(&event, 1, 2000) == 1 && getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

TEST_CASE_METHOD(BerthSite, "anybody may ping in a berth, without privileges") {
  const HeldBerth berth = park(journal, macvlan(0));
  const Child user([&] {
    if (setns(berth.netns.get(), CLONE_NEWNET) != 0 || setgroups(0, nullptr) != 0 ||
        setresgid(70001, 70001, 70001) != 0 || setresuid(70001, 70001, 70001) != 0)
      _exit(1);
    const UniqueFd ping(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP));
    const UniqueFd raw(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
    if (!ping || raw) _exit(1);
  });
  CHECK(user.is_alive());
}

TEST_CASE_METHOD(BerthSite, "a berth's link-local address is used without asking whether others have it") {
  const HeldBerth berth = park(journal, macvlan(0));
  const NetnsGuard inside(berth.netns);
  std::string accept_dad;
  std::ifstream("/proc/sys/net/ipv6/conf/rdma0/accept_dad") >> accept_dad;
  CHECK(accept_dad == "0");
  // By a work queue of the kernel, in its own time.
  const auto is_usable = [] {
    std::ifstream addresses("/proc/thread-self/net/if_inet6");
    std::string address, index, prefix, scope, flags, interface;
    while (addresses >> address >> index >> prefix >> scope >> flags >> interface)
      if (interface == "rdma0" && address.starts_with("fe80"))
        return flags == "80";  // IFA_F_PERMANENT, and not IFA_F_TENTATIVE
    return false;
  };
  CHECK(poll_until(std::chrono::seconds(10), is_usable));
}

TEST_CASE_METHOD(BerthSite, "a parked macvlan is named, addressed and up, and adopted as it is the next time") {
  BerthSpec spec = macvlan(3);
  spec.mtu = 1400;
  spec.gateways = {parse_ip_prefix("10.77.0.254/32").value()};
  std::uint64_t inode = 0;
  MacAddress mac{};
  {
    const HeldBerth berth = park(journal, spec);
    inode = netns_inode(berth.netns);
    CHECK(berth.record.phase == Phase::parked);
    CHECK(berth.record.netns_inode == inode);
    CHECK(journal.read(spec.id) == berth.record);
    CHECK(journal.is_locked(spec.id));
    CHECK(netns_inode(*open_pinned_netns(journal.netns_path(spec.id))) == inode);
    LinkSocket inside = LinkSocket::in_netns(berth.netns);
    const auto link = inside.find("rdma0");
    REQUIRE(link);
    CHECK(link->kind == "macvlan");
    CHECK(link->up);
    CHECK(link->running);
    CHECK(link->mtu == 1400);
    CHECK((link->mac[0] & 3U) == 2U);
    mac = link->mac;
    CHECK(inside.addresses(*link) == spec.addresses);
    CHECK(inside.find("lo")->up);
    CHECK(inside.list().size() == 2);
  }
  CHECK_FALSE(journal.is_locked(spec.id));
  CHECK(netns_inode(park(journal, spec).netns) == inode);

  BerthSpec other = spec;
  other.addresses = {parse_ip_prefix("10.77.9.9/16").value()};
  other.mtu.reset();
  const HeldBerth changed = park(journal, other);
  LinkSocket inside = LinkSocket::in_netns(changed.netns);
  CHECK(inside.addresses(*inside.find("rdma0")) == other.addresses);
  CHECK(inside.find("rdma0")->mtu == 1500);
  CHECK(inside.find("rdma0")->mac == mac);
}

TEST_CASE_METHOD(BerthSite, "berths of one parent reach each other, and only through their devices") {
  const HeldBerth a = park(journal, macvlan(0));
  const HeldBerth b = park(journal, macvlan(1));
  for (const IpPrefix& address : b.record.berth.addresses) {
    INFO(to_string(address));
    CHECK(can_connect(a.netns, b.netns, address));
  }
  // The host's netns has no address on the fabric, so it does not get there.
  CHECK_FALSE(can_connect(open_current_netns(), b.netns, b.record.berth.addresses.front()));
}

TEST_CASE_METHOD(BerthSite, "a clean release keeps the netns and frees the device") {
  HeldBerth berth = park(journal, macvlan(0));
  const std::string id = berth.record.berth.id;
  const auto inode = netns_inode(berth.netns);
  lease(journal, berth, owner(4711));
  CHECK(journal.held_devices(true)[0].holder == "job 4711.0 (alice)");
  CHECK(release(journal, std::move(berth)) == "emptied");
  CHECK_FALSE(journal.is_locked(id));
  CHECK(journal.read(id)->phase == Phase::parked);
  CHECK_FALSE(journal.read(id)->owner);
  CHECK(netns_inode(park(journal, macvlan(0)).netns) == inode);
}

TEST_CASE_METHOD(BerthSite, "a held device is busy, and the message names the holder") {
  HeldBerth berth = park(journal, macvlan(0));
  lease(journal, berth, owner(4711));
  for (const Error& error : {testing::error_of([&] { unpark(journal, macvlan(0).id); }),
                             testing::error_of([&] { park(journal, macvlan(0)); })}) {
    CHECK(error.code == ErrorCode::busy);
    CHECK(error.why.find("job 4711.0 (alice)") != std::string::npos);
  }
  CHECK(repair(journal).empty());
  CHECK(journal.read(macvlan(0).id)->phase == Phase::leased);
}

TEST_CASE_METHOD(BerthSite, "daemons that a job leaves in its berth are killed") {
  Child elsewhere([] {});  // before the lock is taken, of which every later child has a copy
  HeldBerth berth = park(journal, macvlan(0));
  const auto inode = netns_inode(berth.netns);
  lease(journal, berth, owner(1));
  Child plain([&] { setns(berth.netns.get(), CLONE_NEWNET); });
  Child with_socket([&] {
    setns(berth.netns.get(), CLONE_NEWNET);
    if (socket(AF_INET, SOCK_DGRAM, 0) < 0) _exit(1);
  });
  // Only one thread, and not the first, is in the berth.
  Child threaded([&] {
    static std::jthread thread([&] {
      setns(berth.netns.get(), CLONE_NEWNET);
      for (;;) pause();
    });
    while (read_processes_in_each({inode}).front().size() < 3) std::this_thread::yield();
  });
  CHECK(read_processes_in_each({inode}).front() == std::vector<int>{plain.pid(), with_socket.pid(), threaded.pid()});
  CHECK(release(journal, std::move(berth)) == "emptied");
  CHECK(plain.was_killed());
  CHECK(with_socket.was_killed());
  CHECK(threaded.was_killed());
  CHECK_FALSE(elsewhere.was_killed());
  CHECK(netns_inode(park(journal, macvlan(0)).netns) == inode);
}

TEST_CASE_METHOD(BerthSite, "a socket that is held outside costs the netns, not the device") {
  for (const int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK}) {
    INFO("family " << family);
    HeldBerth berth = park(journal, macvlan(0));
    lease(journal, berth, owner(1));
    const UniqueFd old(fcntl(berth.netns.get(), F_DUPFD_CLOEXEC, 0));
    const auto inode = netns_inode(old);
    // As if it had been passed to a process outside: the socket stays in the netns it was made in.
    const UniqueFd held = make_socket(old, family, family == AF_NETLINK ? SOCK_RAW : SOCK_STREAM);
    REQUIRE(held);
    CHECK(release(journal, std::move(berth)) == "rebuilt");
    CHECK_FALSE(LinkSocket::in_netns(old).find("rdma0"));
    const HeldBerth next = park(journal, macvlan(0));
    CHECK(netns_inode(next.netns) != inode);
    CHECK(LinkSocket::in_netns(next.netns).find("rdma0")->running);
    CHECK(journal.read(macvlan(0).id)->netns_inode == netns_inode(next.netns));
  }
}

TEST_CASE_METHOD(BerthSite, "sockets that the kernel frees late do not cost the netns") {
  HeldBerth berth = park(journal, macvlan(0));
  const auto inode = netns_inode(berth.netns);
  make_socket(berth.netns, AF_PACKET, SOCK_RAW).reset();
  make_socket(berth.netns, AF_NETLINK, SOCK_RAW).reset();
  CHECK(release(journal, std::move(berth)) == "emptied");
  CHECK(netns_inode(park(journal, macvlan(0)).netns) == inode);
}

TEST_CASE_METHOD(BerthSite, "a device that is never parked is gone after its release") {
  BerthSpec spec = macvlan(0);
  spec.park = Park::never;
  HeldBerth berth = park(journal, spec);
  lease(journal, berth, owner(1));
  CHECK(release(journal, std::move(berth)) == "brought home");
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "unpark leaves nothing") {
  park(journal, macvlan(0));
  unpark(journal, macvlan(0).id);
  check_nothing_left();
  CHECK_THROWS_AS(unpark(journal, macvlan(0).id), Error);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "what cannot be parked is undone, and the error says why") {
  const auto reason = [&](const BerthSpec& spec) {
    std::string why = "parked";
    try {
      park(journal, spec);
    } catch (const Error& error) {
      CHECK(error.code == ErrorCode::host);
      why = error.why;
    }
    if (why != "parked") check_nothing_left();
    return why;
  };
  BerthSpec spec = macvlan(0);
  spec.parent = "nosuch0";
  CHECK(reason(spec).find("no such network device") != std::string::npos);
  spec = macvlan(0);
  spec.mtu = 9000;
  CHECK(reason(spec).find("EINVAL") != std::string::npos);
  spec = macvlan(0);
  spec.gateways = {parse_ip_prefix("172.31.0.1/32").value()};
  CHECK(reason(spec) != "parked");
  spec = macvlan(0);
  spec.addresses.push_back(spec.addresses.front());
  CHECK(reason(spec).find("EEXIST") != std::string::npos);
  run("ip link set fabric1 down");
  CHECK(reason(macvlan(0)).find("no carrier") != std::string::npos);
  run("ip link set fabric0 down");
  CHECK(reason(macvlan(0)).find("down") != std::string::npos);
  run("ip link set fabric0 up && ip link set fabric1 up");
  CHECK(reason(macvlan(0)) == "parked");
}

TEST_CASE_METHOD(BerthSite, "a parent that comes and goes takes its berths with it, and they come back") {
  park(journal, macvlan(0));
  run("ip link del fabric0");
  CHECK_THROWS_AS(park(journal, macvlan(0)), Error);
  check_nothing_left();
  make_parent();
  const HeldBerth berth = park(journal, macvlan(0));
  CHECK(LinkSocket::in_netns(berth.netns).find("rdma0")->running);
}

TEST_CASE_METHOD(BerthSite, "a macvlan that somebody keeps alive out of reach is not made a second time") {
  park(journal, macvlan(0));
  UniqueFd held = make_socket(*open_pinned_netns(journal.netns_path(macvlan(0).id)), AF_INET, SOCK_STREAM);
  unpin_netns(journal.netns_path(macvlan(0).id));
  const Error error = testing::error_of([&] { park(journal, macvlan(0)); });
  INFO(error.render());
  CHECK(error.fix.find("MAC address") != std::string::npos);
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "a berth with a process that does not end is quarantined until it has ended") {
  HeldBerth berth = park(journal, macvlan(0));
  lease(journal, berth, owner(1));
  const UniqueFd netns(fcntl(berth.netns.get(), F_DUPFD_CLOEXEC, 0));
  {
    // The process that asks is the one that is never killed.
    const NetnsGuard inside(netns);
    CHECK(release(journal, std::move(berth), 100).starts_with("quarantined: "));
  }
  CHECK(journal.read(macvlan(0).id)->reason.find(fmt::format("process {} ", getpid())) != std::string::npos);
  CHECK_THROWS_AS(park(journal, macvlan(0)), Error);
  CHECK(repair(journal).at(0).action == "brought home");
  check_nothing_left();
}

TEST_CASE_METHOD(BerthSite, "of many that want one device at once, one gets it") {
  for (const bool parked : {false, true}) {
    INFO(parked);
    if (parked) park(journal, macvlan(0));
    int barrier[2];
    REQUIRE(pipe(barrier) == 0);
    // The winner holds on until all others have been told off.
    const int winners = testing::count_successes(8, [&](int) {
      char byte = 0;
      try {
        const HeldBerth berth = park(journal, macvlan(0));
        for (int losers = 0; losers < 7; ++losers)
          if (read(barrier[0], &byte, 1) != 1) return false;
        return true;
      } catch (const Error& error) {
        if (write(barrier[1], "x", 1) != 1) return true;
        return error.code != ErrorCode::busy;
      }
    });
    CHECK(winners == 1);
    close(barrier[0]);
    close(barrier[1]);
  }
}

TEST_CASE_METHOD(BerthSite, "128 berths are parked, leased, emptied at once and unparked") {
  std::vector<HeldBerth> berths;
  for (unsigned i = 0; i < 128; ++i) {
    berths.push_back(park(journal, macvlan(i)));
    lease(journal, berths.back(), owner(i));
  }
  std::vector<std::unique_ptr<Child>> left;
  for (const unsigned i : {5U, 77U})
    left.push_back(std::make_unique<Child>([&] { setns(berths[i].netns.get(), CLONE_NEWNET); }));
  CHECK(can_connect(berths[0].netns, berths[127].netns, berths[127].record.berth.addresses.front()));
  const std::vector<std::string> actions = release(journal, std::move(berths));
  CHECK(actions == std::vector<std::string>(128, "emptied"));
  for (const auto& child : left) CHECK(child->was_killed());
  for (unsigned i = 0; i < 128; ++i) unpark(journal, macvlan(i).id);
  check_nothing_left();
}
