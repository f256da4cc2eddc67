#include "tests/namespaces/berth_site.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "launcher/system/netlink_link.hpp"

namespace berth::testing {

namespace {
std::unique_ptr<TemporaryDirectory> make_directory() {
  enter_private_namespaces();
  return std::make_unique<TemporaryDirectory>();
}
}  // namespace

BerthSite::BerthSite() : directory_(make_directory()), journal(directory_->path() + "/berth") {
  make_parent();
  run("ip link add vf0 address 02:00:5e:00:53:01 type veth peer name wire0 && ip link set wire0 up && "
      "ip link set vf0 mtu 1480 up && ip addr add 192.168.77.5/24 dev vf0 && ip addr add 192.168.78.5/24 brd + dev vf0 "
      "&& ip addr add fd00:77::5/64 dev vf0 nodad");
}

void BerthSite::make_parent() {
  run("ip link add fabric0 type veth peer name fabric1 && ip link set fabric0 up && ip link set fabric1 up");
}

BerthSpec BerthSite::macvlan(unsigned index) {
  BerthSpec spec;
  spec.id = fmt::format("fabric0.mv{}", index);
  spec.pool = "fast";
  spec.parent = "fabric0";
  spec.index = index;
  spec.interface = "rdma0";
  spec.addresses = {parse_ip_prefix(fmt::format("10.77.1.{}/16", index + 1)).value(),
                    parse_ip_prefix(fmt::format("fd00:78::{:x}/64", index + 1)).value()};
  return spec;
}

BerthSpec BerthSite::moved_device() {
  BerthSpec spec;
  spec.id = "vf-stand-in";
  spec.pool = "fast";
  spec.kind = PoolKind::sriov;
  spec.parent = "vf0";
  spec.interface = "rdma0";
  spec.addresses = {parse_ip_prefix("10.78.1.1/16").value()};
  spec.mtu = 1400;
  return spec;
}

void BerthSite::check_home() {
  LinkSocket host;
  const auto link = host.find("vf0");
  REQUIRE(link);
  CHECK(link->mtu == 1480);
  CHECK(link->up);
  CHECK(host.addresses(*link).size() == 3);
}

LeaseOwner BerthSite::owner(unsigned job) {
  return {.job = job, .step = 0, .uid = 1000, .user = "alice", .ranks = {0}, .broker = {}};
}

void BerthSite::check_nothing_left() {
  CHECK(journal.traces().empty());
  const std::string mounts = read_file(AT_FDCWD, "/proc/self/mountinfo");
  CHECK(mounts.find(journal.state_directory() + "/netns/") == std::string::npos);
  for (const Link& link : LinkSocket().list()) {
    INFO(link.name);
    CHECK(std::ranges::any_of(std::initializer_list<std::string>{"lo", "fabric0", "fabric1", "vf0", "wire0"},
                              [&](const std::string& name) { return name == link.name; }));
  }
}

}  // namespace berth::testing
