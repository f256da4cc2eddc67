// Each step of the self-test fails by itself and is named. The netdev is real; the RDMA device, which this machine need
// not have, is files constructed in the places of sysfs and /dev. The rig does the same with an RDMA device.
#include "launcher/enter/self_test.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <functional>

#include "launcher/image/child.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using namespace berth::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::uint64_t kMemlock = 1 << 16;

/// A port with a link and the GID of 10.77.0.2, on a veth pair.
class Device {
 public:
  Device() {
    enter_private_namespaces();
    run("ip link add rdma0 type veth peer name wire0 && ip link set wire0 up && ip link set rdma0 up");
    run("ip address add 10.77.0.2/16 dev rdma0");
    grant_.device = "mlx5_3";
    grant_.nodes = {{"uverbs0", 1, 3, 0666, 0, 0}};
    grant_.interface = "rdma0";
    grant_.addresses = {parse_ip_prefix("10.77.0.2/16").value()};
  }

  /// What the self-test of an unprivileged rank says after `change`, a shell command; "" if nothing is wrong.
  [[nodiscard]] std::string tested_after(const std::string& change, std::uint64_t memlock = kMemlock) const {
    return ask_child(
               "cannot run the child", std::chrono::seconds(10),
               [&] {
                 if (unshare(CLONE_NEWNS) != 0) return ChildAnswer{"unshare", {}};
                 run("mount -t tmpfs tmpfs /sys && mount -t tmpfs -o mode=755,dev tmpfs /dev && mkdir /dev/infiniband");
                 run("mknod -m 666 /dev/infiniband/uverbs0 c 1 3");
                 run("port=/sys/class/infiniband/mlx5_3/ports/1; mkdir -p $port/gids $port/gid_attrs/ndevs && cd $port "
                     "&& "
                     "echo '4: ACTIVE' >state && echo Ethernet >link_layer && echo rdma0 >gid_attrs/ndevs/1 && "
                     "echo 0000:0000:0000:0000:0000:ffff:0a4d:0002 >gids/1");
                 run(change);
                 const rlimit limit{kMemlock, kMemlock};
                 if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
                   return ChildAnswer{"drop", {}};
                 return ChildAnswer{refusal([&] { run_self_test(grant_, memlock); }), {}};
               })
        .text;
  }

 private:
  RdmaGrant grant_;
};

}  // namespace

TEST_CASE("each step of the self-test that fails is named, with cause and remedy (constructed RDMA device)") {
  const Device device;
  const std::string port = "/sys/class/infiniband/mlx5_3/ports/1";
  CHECK(device.tested_after("true").empty());

  const auto fails = [&](const std::string& change, const char* step, const char* why, const char* fix) {
    CAPTURE(change);
    const std::string text = device.tested_after(change);
    CHECK_THAT(text, ContainsSubstring(fmt::format("cannot use RDMA device 'mlx5_3': self-test failed at '{}'", step)));
    CHECK_THAT(text, ContainsSubstring(why));
    CHECK_THAT(text, ContainsSubstring(fix));
  };
  fails("rm /dev/infiniband/uverbs0", "open node", "/dev/infiniband/uverbs0", "see the kernel's log");
  fails("chmod 600 /dev/infiniband/uverbs0", "open node", "Permission denied", "udev rule of rdma-core");
  fails("echo '1: DOWN' >" + port + "/state", "port active", "port 1 is '1: DOWN'", "check cable and switch port");
  fails("echo '2: INIT' >" + port + "/state", "port active", "port 1 is '2: INIT'", "check cable and switch port");
  fails("rm -r " + port, "port active", "there is no port 1", "check cable and switch port");
  fails("rm " + port + "/gids/1", "GID present", "no GID for 10.77.0.2 of 'rdma0'", "berth unpark, then berth park");
  fails("echo other0 >" + port + "/gid_attrs/ndevs/1", "GID present", "no GID for 10.77.0.2", "berth unpark");
  CHECK(device.tested_after("rm -r " + port + "/gids; echo InfiniBand >" + port + "/link_layer").empty());
  const std::string text = device.tested_after("true", kMemlock + 1);
  CHECK_THAT(text, ContainsSubstring("self-test failed at 'locked memory'"));
  CHECK_THAT(text, ContainsSubstring("the limit is 65536 bytes, and the policy asks for 65537"));
  CHECK_THAT(text, ContainsSubstring("LimitMEMLOCK=infinity"));

  // Of the netdev, which all children share.
  fails("ip address delete 10.77.0.2/16 dev rdma0", "address present", "'rdma0' has no 10.77.0.2/16", "berth unpark");
  fails("ip link set rdma0 down", "link up", "'rdma0' has no link", "check cable and switch port");
  fails("ip link delete rdma0", "link up", "there is no 'rdma0'", "berth repair");
}
