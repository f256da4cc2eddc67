// Figures of berths against traffic that is known: UDP over macvlans, whose every packet the kernel counts.
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstring>
#include <string>

#include "launcher/broker/counters_reader.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/polling.hpp"
#include "tests/namespaces/berth_site.hpp"

using namespace berth;
using berth::testing::BerthSite;
using berth::testing::Child;
using berth::testing::run;

namespace {

constexpr std::size_t kHeaders = 14 + 20 + 8;  // Ethernet, IPv4, UDP

sockaddr_in address_of(unsigned index) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(7000);
  address.sin_addr.s_addr = htonl(0x0a4d0101U + index);  // 10.77.1.1, see BerthSite::macvlan()
  return address;
}

UniqueFd make_socket(const HeldBerth& berth) {
  const NetnsGuard inside(berth.netns);
  return UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/// Sends datagrams from one berth to another, and receives them.
void exchange(const HeldBerth& from, const HeldBerth& to, unsigned to_index, unsigned count, std::size_t size) {
  const UniqueFd receiver = make_socket(to);
  const UniqueFd sender = make_socket(from);
  const sockaddr_in address = address_of(to_index);
  REQUIRE(bind(receiver.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  std::string datagram(size, 'x');
  for (unsigned i = 0; i < count; ++i) {
    REQUIRE(sendto(sender.get(), datagram.data(), size, 0, reinterpret_cast<const sockaddr*>(&address),
                   sizeof address) == static_cast<ssize_t>(size));
    REQUIRE(recv(receiver.get(), datagram.data(), size, 0) == static_cast<ssize_t>(size));
  }
}

/// The kernel frees sockets a moment after they were closed.
bool has_no_sockets_soon(const HeldBerth& berth) {
  return poll_until(std::chrono::seconds(10), [&] { return read_socket_count(berth.netns) == 0; });
}

/// The same; afterwards there is no socket any more.
void send(const HeldBerth& from, const HeldBerth& to, unsigned to_index, unsigned count, std::size_t size) {
  exchange(from, to, to_index, count, size);
  REQUIRE(has_no_sockets_soon(from));
  REQUIRE(has_no_sockets_soon(to));
}

LinkCounters read_link(const HeldBerth& berth) {
  const BerthCounters counters = CountersReader(true).read(berth.record, berth.netns);
  CHECK_FALSE(counters.rdma);
  return counters.link.value();
}

/// What else a link carries: ARP, and IPv6's discovery of neighbours and routers.
constexpr std::uint64_t kOverheadPackets = 12;
constexpr std::uint64_t kOverheadBytes = kOverheadPackets * 110;

bool is_about(std::uint64_t value, std::uint64_t wanted, std::uint64_t overhead) {
  return value >= wanted && value <= wanted + overhead;
}

}  // namespace

TEST_CASE_METHOD(BerthSite, "figures of a berth are what was sent, and each berth has its own") {
  constexpr unsigned kCount = 500;
  constexpr std::size_t kSize = 1000;
  std::vector<HeldBerth> berths;
  for (const unsigned index : {0U, 1U, 2U}) {
    berths.push_back(park(journal, macvlan(index)));
    lease(journal, berths.back(), owner(7));
  }
  std::vector<LinkCounters> before;
  for (const HeldBerth& berth : berths) before.push_back(read_link(berth));
  send(berths[0], berths[1], 1, kCount, kSize);

  const auto counted = [&](std::size_t i) {
    return difference({.link = read_link(berths[i])}, {.link = before[i]}).link.value();
  };
  const std::uint64_t bytes = kCount * (kSize + kHeaders);
  CHECK(is_about(counted(0).tx_bytes, bytes, kOverheadBytes));
  CHECK(is_about(counted(0).tx_packets, kCount, kOverheadPackets));
  CHECK(is_about(counted(1).rx_packets, kCount, kOverheadPackets));
  // What a macvlan delivers to its sibling has lost its Ethernet header when it is counted.
  CHECK(is_about(counted(1).rx_bytes, kCount * (kSize + kHeaders - 14), kCount * 14 + kOverheadBytes));
  CHECK(counted(0).rx_bytes <= kOverheadBytes);
  CHECK(counted(2).tx_bytes <= kOverheadBytes);
  CHECK(counted(0).tx_errors + counted(1).rx_errors + counted(1).rx_dropped == 0);

  SECTION("reading leaves no socket and no process in the berth") {
    for (const HeldBerth& berth : berths) {
      REQUIRE(has_no_sockets_soon(berth));
      read_link(berth);
      CHECK(read_socket_count(berth.netns) == 0);
    }
  }
  SECTION("the next lease counts on, from its own first reading") {
    const LinkCounters last = read_link(berths[0]);
    CHECK(release(journal, std::move(berths[0])) == "emptied");
    berths[0] = park(journal, macvlan(0));
    lease(journal, berths[0], owner(8));
    CHECK(read_link(berths[0]).tx_bytes >= last.tx_bytes);
    before[0] = read_link(berths[0]);
    send(berths[0], berths[1], 1, 10, kSize);
    CHECK(is_about(counted(0).tx_bytes, 10 * (kSize + kHeaders), kOverheadBytes));
  }
  SECTION("a process in the berth shows them to whoever may see processes") {
    const Child child([&] { REQUIRE(setns(berths[0].netns.get(), CLONE_NEWNET) == 0); });
    const auto counters = CountersReader(false).read_from_outside(berths[0].record, child.pid());
    REQUIRE(counters);
    CHECK(counters->link->tx_bytes >= bytes);
    CHECK_FALSE(CountersReader(false).read_from_outside(berths[0].record, getpid()));
    CHECK_FALSE(CountersReader(false).read_from_outside(berths[1].record, child.pid()));
    const pid_t ended = fork();
    if (ended == 0) _exit(0);
    REQUIRE(waitpid(ended, nullptr, 0) == ended);
    CHECK_FALSE(CountersReader(false).read_from_outside(berths[0].record, ended));
    LeaseRecord renamed = berths[0].record;
    renamed.berth.interface = "no-such";
    CHECK_THROWS_AS(CountersReader(false).read_from_outside(renamed, child.pid()), Error);
  }
  SECTION("a berth without its device is an error") {
    run("nsenter --net=" + journal.netns_path("fabric0.mv2") + " ip link set rdma0 down name other");
    CHECK_THROWS_AS(read_link(berths[2]), Error);
    run("nsenter --net=" + journal.netns_path("fabric0.mv2") + " ip link set other name rdma0");
  }
  for (HeldBerth& berth : berths) release(journal, std::move(berth));
  for (const std::string& id : journal.ids()) unpark(journal, id);
  check_nothing_left();
}
