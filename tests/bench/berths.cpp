#include "tests/bench/berths.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "tests/bench/crowd.hpp"

namespace berth::bench {

namespace {

constexpr const char* kParent = "fabric0";
constexpr const char* kWhat = "cannot make the place to measure in";

void run(const char* command) {
  if (std::system(command) != 0) throw Error(ErrorCode::host, kWhat, fmt::format("'{}' failed", command));
}

BerthSpec make_spec(std::size_t index) {
  BerthSpec spec;
  spec.id = fmt::format("{}.mv{}", kParent, index);
  spec.pool = "fabric";
  spec.parent = kParent;
  spec.index = static_cast<unsigned>(index);
  spec.interface = "rdma0";
  spec.addresses = {parse_ip_prefix(fmt::format("10.77.1.{}/16", index + 1)).value()};
  return spec;
}

/// Dead namespaces take their NICs away a while later, under the lock that the next measurement wants as well.
void await_no_macvlans() {
  constexpr int kTries = 2000;
  constexpr int kPauseMs = 10;
  for (int i = 0; i < kTries; ++i) {
    if (std::system("bridge fdb show dev fabric0 | grep -q '^02:00:00:00:01:'") != 0) return;
    poll(nullptr, 0, kPauseMs);
  }
  throw Error(ErrorCode::host, "cannot measure", "the NICs of dead network namespaces do not go away");
}

}  // namespace

void enter_site() {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) throw system_error(errno, kWhat, "unshare");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("bench", "/mnt", "tmpfs", 0, "mode=0755") != 0)
    throw system_error(errno, kWhat, "mount");
  constexpr unsigned kMisc = 10;
  constexpr unsigned kFuse = 229;
  if (mknod("/mnt/fuse", S_IFCHR | 0666, makedev(kMisc, kFuse)) != 0 || chmod("/mnt/fuse", 0666) != 0 ||
      mount("/mnt/fuse", "/dev/fuse", nullptr, MS_BIND, nullptr) != 0)
    throw system_error(errno, kWhat, "mount /dev/fuse");
  run("ip link set lo up && ip link add fabric0 type veth peer name fabric1 && ip link set fabric0 up && "
      "ip link set fabric1 up");
}

Berths::Berths() : journal_("/mnt/berth") {}

double Berths::acquire(std::size_t count, const std::vector<int>& ranks) {
  LeaseOwner owner{.job = 1, .step = 0, .uid = 1000, .user = "bench", .ranks = {0}, .broker = {getpid(), 1}};
  const double start = now_ms();
  for (std::size_t i = 0; i < count; ++i) {
    owner.ranks = {static_cast<unsigned>(i)};
    if (!ranks.empty()) owner.processes = {ranks[i]};
    held_.push_back(park(journal_, make_spec(i)));
    lease(journal_, held_.back(), owner);
  }
  return now_ms() - start;
}

void Berths::enter(std::size_t index) const {
  const auto netns = open_pinned_netns(journal_.netns_path(make_spec(index).id));
  if (!netns || setns(netns->get(), CLONE_NEWNET) != 0) throw system_error(errno, "cannot enter a berth", "setns");
}

double Berths::release_all() {
  const double start = now_ms();
  for (const std::string& action : release(journal_, std::exchange(held_, {})))
    if (action != "emptied") throw Error(ErrorCode::host, "cannot measure", fmt::format("a berth was {}", action));
  return now_ms() - start;
}

void Berths::unpark_all() {
  held_.clear();
  for (const std::string& id : journal_.ids()) unpark(journal_, id);
}

double enter_warm(const Berths& berths, int count) {
  const auto enter = [&berths](int i) {
    if (setns(berths.held()[static_cast<std::size_t>(i)].netns.get(), CLONE_NEWNET) != 0)
      throw system_error(errno, "cannot enter a berth", "setns");
  };
  return Crowd(
             count, [](int) {}, enter)
      .run_until_done();
}

double move_cold(int count) {
  LinkSocket host;
  const Link parent = host.find(kParent).value();
  for (int i = 0; i < count; ++i)
    host.create_macvlan({.name = fmt::format("cold{}", i),
                         .parent = parent.index,
                         .mac = {0x02, 0, 0, 0, 1, static_cast<std::uint8_t>(i)},
                         .mtu = parent.mtu,
                         .netns = open_current_netns().get()});
  std::optional<LinkSocket> outside;
  const auto prepare = [&outside](int) { outside.emplace(); };
  const auto move_in = [&outside](int i) {
    if (unshare(CLONE_NEWNET) != 0) throw system_error(errno, "cannot make a network namespace", "unshare");
    const UniqueFd netns = open_current_netns();
    outside->change(outside->find(fmt::format("cold{}", i)).value(), {.name = "rdma0", .netns = netns.get()});
    LinkSocket inside;
    const Link link = inside.find("rdma0").value();
    inside.change(inside.find("lo").value(), {.up = true});
    inside.change(link, {.up = true});
    inside.add_address(link, parse_ip_prefix(fmt::format("10.77.1.{}/16", i + 1)).value());
  };
  double elapsed = 0;
  {
    Crowd crowd(count, prepare, move_in);
    elapsed = crowd.run_until_done();
  }
  await_no_macvlans();
  return elapsed;
}

}  // namespace berth::bench
