// What examples/policies/usnic-container.toml promises, as far as it goes without a Cisco VIC: sysfs is recorded, a
// veth stands in for the vNIC; network namespaces, mounts, char devices and cgroups are the kernel's.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <set>

#include "launcher/broker/rank_cgroups.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/image/child.hpp"
#include "launcher/image/rdma_view.hpp"
#include "launcher/system/cgroup_tree.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/sysfs.hpp"
#include "tests/namespaces/berth_site.hpp"
#include "tests/unit/recorded_usnic.hpp"

using namespace berth;
using berth::testing::BerthSite;
using berth::testing::Child;
using berth::testing::run;

namespace {

constexpr auto kPatience = std::chrono::seconds(20);

Inventory read(const RecordedUsnic& node) {
  KnownSpeeds none;
  Inventory inventory = read_inventory(node.path(), "node1", none);
  inventory.topology.cpus = CpuSet::range(0, 15);
  inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  return inventory;
}

/// The plan of the example for a container that asks for the vNIC eth5.
NodePlan plan_example(const Inventory& inventory) {
  const std::string path = BERTH_SOURCE_DIR "/examples/policies/usnic-container.toml";
  const Caller root{.uid = 0, .gid = 0, .user = "root", .groups = {"root"}, .account = {}};
  return make_plan({.request = {},
                    .policy = parse_policy(read_file(AT_FDCWD, path), path),
                    .inventory = inventory,
                    .caller = root,
                    .ranks = {{0, CpuSet::range(0, 15)}},
                    .device = "0000:09:00.0"});
}

RdmaGrant grant_of(const UsnicDevice& device) {
  RdmaGrant grant;
  grant.device = device.name;
  grant.nodes = {{device.uverbs, device.major, device.minor, 0666, 0, 0}};
  return grant;
}

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) names.insert(entry.path().filename());
  return names;
}

std::string join(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + ' ';
  return text;
}

/// How the kernel answers somebody who opens a char device.
int open_error(const std::string& path, unsigned major, unsigned minor) {
  if (mknod(path.c_str(), S_IFCHR | 0600, makedev(major, minor)) != 0) return errno;
  const UniqueFd node(open(path.c_str(), O_RDWR | O_CLOEXEC));
  const int error = node ? 0 : errno;
  unlink(path.c_str());
  return error;
}

}  // namespace

TEST_CASE_METHOD(BerthSite, "recorded: a container with one usNIC vNIC has lo and that netdev, which comes home") {
  run("ip link add eth4 address 00:25:b5:00:00:01 type veth peer name wire4 && "
      "ip link add eth5 address 00:25:b5:00:00:02 type veth peer name wire5 && "
      "ip link set wire5 up && ip link set eth5 up && ip address add 10.10.0.2/16 dev eth5");
  const RecordedUsnic node;
  const NodePlan plan = plan_example(read(node));
  REQUIRE(plan.berths.size() == 1);
  BerthSpec spec = plan.berths.front();
  CHECK(spec.kind == PoolKind::usnic);
  CHECK(spec.parent == "eth5");
  CHECK(spec.park == Park::never);
  // No PCI function and no RDMA device of this machine: what stands in is found by its name.
  spec.id = "vf-stand-in";
  spec.pci.reset();
  spec.rdma = {};

  const auto before = LinkSocket().find("eth5");
  REQUIRE(before);
  Child container([] {
    if (unshare(CLONE_NEWNET) != 0) throw std::exception();
  });
  const UniqueFd netns(open(fmt::format("/proc/{}/ns/net", container.pid()).c_str(), O_RDONLY | O_CLOEXEC));
  LeaseOwner owner = BerthSite::owner(0);
  owner.container = "lxc1";
  HeldBerth berth = place(journal, std::move(claim(journal, {spec}).front()), netns, owner);
  LinkSocket inside = LinkSocket::in_netns(netns);
  std::set<std::string> links;
  for (const Link& link : inside.list()) links.insert(link.name);
  CHECK(links == std::set<std::string>{"eth5", "lo"});
  const Link vnic = inside.get("eth5");
  CHECK(vnic.up);
  CHECK(inside.addresses(vnic) == std::vector<IpPrefix>{*parse_ip_prefix("10.10.0.2/16")});
  CHECK_FALSE(LinkSocket().find("eth5"));
  CHECK(LinkSocket().find("eth4"));

  CHECK(release(journal, std::move(berth)) == "brought home");
  CHECK(LinkSocket().find("eth5") == before);
  CHECK(LinkSocket().addresses(*before) == std::vector<IpPrefix>{*parse_ip_prefix("10.10.0.2/16")});
  run("ip link del eth4 && ip link del eth5");
  check_nothing_left();
}

TEST_CASE("recorded: a rank with one usNIC vNIC sees uverbs1 alone, in /dev and in sysfs, and the host sees all") {
  testing::enter_private_namespaces();
  const RecordedUsnic node;
  const Inventory inventory = read(node);
  const std::string seen =
      ask_child("cannot look", kPatience, [&] {
        if (unshare(CLONE_NEWNS) != 0) throw system_error(errno, "cannot look", "unshare");
        run(
            fmt::format("mount --rbind {} /sys && mount -t tmpfs tmpfs /dev && mkdir /dev/infiniband && "
                        "mknod /dev/infiniband/uverbs0 c 231 192 && mknod /dev/infiniband/uverbs1 c 231 193",
                        node.path("sys")));
        apply_rdma_view({grant_of(inventory.usnic_devices[1])});
        struct stat status {};
        stat("/dev/infiniband/uverbs1", &status);
        std::string text = fmt::format("{}| {}:{} | {}| {}|", join(names_in("/dev/infiniband")), major(status.st_rdev),
                                       minor(status.st_rdev), join(names_in("/sys/class/infiniband")),
                                       join(names_in("/sys/class/infiniband_verbs")));
        // The files that libfabric's usnic provider reads, the way it goes; the first that it cannot read
        // would end its list.
        for (const std::string& entry : names_in("/sys/class/infiniband_verbs")) {
          const std::string path = "/sys/class/infiniband_verbs/" + entry;
          if (!std::filesystem::is_directory(path)) continue;
          std::string device = read_file(AT_FDCWD, path + "/ibdev");
          device.pop_back();
          for (const char* file : {"iface", "max_vf", "qp_per_vf", "cq_per_vf", "fw_ver", "ports/1/gids/0"})
            text += read_file(AT_FDCWD, fmt::format("{}/device/infiniband/{}/{}", path, device, file)).empty() ? " -"
                                                                                                               : " +";
        }
        return ChildAnswer{text, {}};
      }).text;
  CHECK(seen == "uverbs1 | 231:193 | usnic_1 | abi_version uverbs1 | + + + + + +");
  CHECK(names_in(node.path("sys/class/infiniband")) == std::set<std::string>{"usnic_0", "usnic_1"});
  CHECK(names_in(node.path("sys/class/infiniband_verbs")) ==
        std::set<std::string>{"abi_version", "uverbs0", "uverbs1"});
}

TEST_CASE("recorded: the device rules of a rank with one usNIC vNIC are 231:193") {
  testing::enter_private_namespaces();
  const testing::TemporaryDirectory directory;
  const RecordedUsnic node;
  const RdmaGrant grant = grant_of(read(node).usnic_devices[1]);
  RdmaSettings settings;
  settings.device_rules = true;
  const auto errors_in = [&](std::optional<int> rank) {
    return ask_child("cannot try", kPatience,
                     [&] {
                       const CgroupTree tree = CgroupTree::unified();
                       if (rank) tree.move_process(getpid(), tree.path_of(*rank));
                       const std::string path = directory.path() + "/node";
                       return ChildAnswer{fmt::format("{} {} {}", open_error(path, 231, 192),
                                                      open_error(path, 231, 193), open_error(path, 1, 3)),
                                          {}};
                     })
        .text;
  };
  // Nothing drives these numbers here: who may open them is told that.
  const std::string all = fmt::format("{0} {0} 0", ENXIO);
  REQUIRE(errors_in(std::nullopt) == all);
  {
    const Child rank([] {});
    RankCgroups cgroups;
    cgroups.apply({{rank.pid(), "recorded-usnic", &settings, {&grant}}});
    CHECK(errors_in(rank.pid()) == fmt::format("{} {} 0", EPERM, ENXIO));
    CHECK(errors_in(std::nullopt) == all);
  }
  CHECK(errors_in(std::nullopt) == all);
}
