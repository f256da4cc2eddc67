#include "launcher/system/netlink_link.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>

#include "launcher/system/link_flags.hpp"
#include "launcher/system/namespaces.hpp"
#include "tests/error_of.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::enter_private_namespaces;
using berth::testing::run;

namespace {

struct VethPair {
  static void make() {
    enter_private_namespaces();
    run("ip link add nl0 type veth peer name nl1 && ip link set nl0 up && ip link set nl1 up");
  }
  LinkSocket socket = (make(), LinkSocket());
};

IpPrefix prefix(const char* text) { return parse_ip_prefix(text).value(); }

}  // namespace

TEST_CASE_METHOD(VethPair, "links are found by name and index, not by alternative names") {
  run("ip link property add dev nl0 altname nl0-also");
  const auto link = socket.find("nl0");
  REQUIRE(link);
  CHECK(link->kind == "veth");
  CHECK(link->up);
  CHECK(link->altnames == std::vector<std::string>{"nl0-also"});
  CHECK(socket.find(link->index) == link);
  CHECK_FALSE(socket.find("nl0-also"));
  CHECK_FALSE(socket.find("nl7"));
  CHECK_FALSE(socket.find("a name that is far too long for a device"));
  CHECK_FALSE(socket.find(4'000'000U));
  const auto all = socket.list();
  CHECK(std::count_if(all.begin(), all.end(), [](const Link& l) { return l.name == "nl0" || l.name == "nl1"; }) == 2);
}

TEST_CASE_METHOD(VethPair, "a macvlan is created inside another netns, under its last name") {
  const UniqueFd netns = create_netns();
  const MacAddress mac{2, 1, 2, 3, 4, 5};
  socket.create_macvlan(
      {.name = "rdma0", .parent = socket.find("nl0")->index, .mac = mac, .mtu = 1400, .netns = netns.get()});
  CHECK_FALSE(socket.find("rdma0"));
  LinkSocket inside = LinkSocket::in_netns(netns);
  const auto link = inside.find("rdma0");
  REQUIRE(link);
  CHECK(link->kind == "macvlan");
  CHECK(link->mac == mac);
  CHECK(link->mtu == 1400);
  CHECK_FALSE(link->up);
  inside.change(*link, {.up = true});
  CHECK(inside.wait_until_running(*link, 1000));
  inside.remove(*link);
  CHECK_FALSE(inside.find("rdma0"));
}

TEST_CASE_METHOD(VethPair, "a device is renamed and moved in one message, there and back") {
  const UniqueFd home = open_current_netns();
  const UniqueFd netns = create_netns();
  const Link before = socket.find("nl1").value();
  socket.change(before, {.name = "rdma0", .netns = netns.get()});
  CHECK_FALSE(socket.find("nl1"));
  LinkSocket inside = LinkSocket::in_netns(netns);
  const auto moved = inside.find("rdma0");
  REQUIRE(moved);
  CHECK(moved->mac == before.mac);
  inside.change(*moved, {.name = "nl1", .netns = home.get()});
  CHECK(socket.find("nl1")->mac == before.mac);

  run("ip link add rdma9 type veth peer name rdma8");
  const Error error = testing::error_of([&] { socket.change(*socket.find("nl1"), {.name = "rdma9"}); });
  CHECK(error.code == ErrorCode::host);
  CHECK(error.what_text.find("nl1") != std::string::npos);
  CHECK(error.why.find("EEXIST") != std::string::npos);
  CHECK_FALSE(error.fix.empty());
  run("ip link del rdma9");
}

TEST_CASE_METHOD(VethPair, "addresses come and go, and those of the kernel are not listed") {
  const Link link = socket.find("nl0").value();
  const std::vector<IpPrefix> wanted{prefix("10.9.8.7/20"), prefix("10.9.8.8/31"), prefix("fd00:9::7/64")};
  for (const IpPrefix& address : wanted) socket.add_address(link, address);
  auto found = socket.addresses(link);
  std::sort(found.begin(), found.end());
  CHECK(found == wanted);
  // Tentative addresses cannot be bound; ours can, at once.
  run("ip -6 addr show dev nl0 | grep -q 'fd00:9::7/64 scope global nodad'");
  run("ip -4 addr show dev nl0 | grep -q 'brd 10.9.15.255'");
  socket.add_default_route(link, prefix("10.9.0.1/32"));
  run("ip route show default | grep -q 'via 10.9.0.1 dev nl0'");
  CHECK_THROWS_AS(socket.add_default_route(link, prefix("172.31.0.1/32")), Error);
  CHECK_THROWS_AS(socket.add_address(link, wanted[0]), Error);
  for (const IpPrefix& address : wanted) socket.remove_address(link, address);
  CHECK(socket.addresses(link).empty());
}

TEST_CASE_METHOD(VethPair, "a wait for the link ends when it comes up, or in time") {
  run("ip link set nl1 down");
  const Link link = socket.find("nl0").value();
  CHECK_FALSE(socket.wait_until_running(link, 20));
  const testing::Child other([] {
    if (std::system("(sleep 0.1; ip link set nl1 up) &") != 0) _exit(1);
  });
  CHECK(socket.wait_until_running(link, 5000));
  CHECK(socket.find("nl0")->running);
}

TEST_CASE_METHOD(VethPair, "a network namespace is pinned, counted and let go") {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/pin";
  std::uint64_t inode = 0;
  {
    const UniqueFd netns = create_netns();
    inode = netns_inode(netns);
    CHECK(inode != netns_inode(open_current_netns()));
    pin_netns(netns, path);
    CHECK_THROWS_AS(pin_netns(netns, path), Error);
  }
  const auto pinned = open_pinned_netns(path);
  REQUIRE(pinned);
  CHECK(netns_inode(*pinned) == inode);

  CHECK(read_socket_count(*pinned) == 0);
  UniqueFd socket_inside;
  {
    const NetnsGuard inside(*pinned);
    CHECK(read_link_flags("lo").has_value());
    CHECK_FALSE(read_link_flags("lo")->up);
    CHECK_FALSE(read_link_flags("nl0"));
    socket_inside.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  CHECK(read_link_flags("nl0").has_value());
  CHECK(read_socket_count(*pinned) == 1);
  socket_inside.reset();
  CHECK(read_socket_count(*pinned) == 0);

  unpin_netns(path);
  CHECK(access(path.c_str(), F_OK) != 0);
  unpin_netns(path);
  CHECK_FALSE(open_pinned_netns(path));
  // What a crash between making the file and mounting over it leaves.
  UniqueFd(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK_FALSE(open_pinned_netns(path));
  unpin_netns(path);
  CHECK(access(path.c_str(), F_OK) != 0);
}
