// Onload without its hardware: an installation laid out as its packages do, a kernel module's files mounted over /proc,
// and char devices with numbers that no driver has, so that opening one says ENXIO where it is allowed.
#include "launcher/broker/onload.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>

#include "launcher/broker/rank_cgroups.hpp"
#include "launcher/enter/self_test.hpp"
#include "launcher/system/cgroup_tree.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::Child;
using berth::testing::ImageSite;
using berth::testing::refusal;
using berth::testing::run;
using berth::testing::slurp;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kInterface = "0f343b0931126a20f133d67c2b018a3b";
/// Majors that the kernel gives to drivers on demand from above, and has not come down to.
constexpr unsigned kMajor = 400;

class OnloadSite : public ImageSite {
 public:
  OnloadSite() {
    policy.source = "policy.toml";
    policy.onload = {true, "/mnt/onload/lib64/libonload.so", "/mnt/onload/bin/onload", "/mnt/onload/profiles", true};
    run("mkdir -p /mnt/onload/lib64 /mnt/onload/bin /mnt/onload/profiles /mnt/proc && cd /mnt/onload && "
        "echo host-script > bin/onload && echo extension > lib64/libonload_ext.so.2.0.0 && "
        "ln -s libonload_ext.so.2.0.0 lib64/libonload_ext.so.2 && echo other > lib64/libother.so && "
        "printf 'onload_set EF_POLL_USEC 100000\\nonload_import base\\n' > profiles/latency.opf && "
        "echo 'onload_set EF_PIO 0' > profiles/base.opf-fragment && "
        "printf '\\n\\nif true; then\\n' > profiles/latency-best.opf");
    install_library("Onload 9.0.2.140", kInterface);
    // The host's own /dev is everybody's; so is /proc.
    run("mkdir /mnt/dev && mount -t tmpfs tmpfs /mnt/dev && cd /dev && cp -a null zero full random urandom tty ptmx "
        "/mnt/dev && mkdir /mnt/dev/pts /mnt/dev/shm && mount --bind pts /mnt/dev/pts && mount --bind shm /mnt/dev/shm "
        "&& mount --rbind /mnt/dev /dev && mount -t tmpfs tmpfs /proc/driver && mkdir /proc/driver/onload");
    register_devices({"onload", "onload_epoll", "sfc_char"});
    load_module("9.0.2.140", kInterface);
    run(fmt::format(
        "mknod -m 660 /dev/onload c {} 0 && chgrp 4244 /dev/onload && mknod -m 666 /dev/onload_epoll c {} 0 && "
        "mknod -m 600 /dev/sfc_char c {} 0",
        kMajor, kMajor + 1, kMajor + 2));
  }
  ~OnloadSite() { run("umount -l /proc/devices && umount -l /proc/driver && umount -l /dev"); }
  OnloadSite(const OnloadSite&) = delete;
  OnloadSite& operator=(const OnloadSite&) = delete;

  static void install_library(const std::string& version, const std::string& interface) {
    std::ofstream file("/mnt/onload/lib64/libonload.so", std::ios::binary);
    file << "code" << '\0' << version << "\nCopyright\nBuilt: today (release)\n" << '\0' << interface << '\0';
  }

  static void register_devices(const std::vector<std::string>& names) {
    run("mountpoint -q /proc/devices && umount /proc/devices; true");
    std::ofstream file("/mnt/proc/devices");
    file << "Character devices:\n  1 mem\n 10 misc\n";
    for (std::size_t i = 0; i < names.size(); ++i) file << kMajor + i << ' ' << names[i] << '\n';
    file << "\nBlock devices:\n  7 loop\n";
    file.close();
    run("mount --bind /mnt/proc/devices /proc/devices");
  }

  static void load_module(const std::string& version, const std::string& interface) {
    std::ofstream("/proc/driver/onload/version")
        << "onload_product: Onload\nonload_version: " << version << "\nuk_intf_ver: " << interface << '\n';
  }

  [[nodiscard]] Onload read(const std::vector<std::string>& profiles = {}, bool in_image = true) const {
    return read_onload(policy, profiles, in_image);
  }
  [[nodiscard]] std::string refused(const std::vector<std::string>& profiles = {}) const {
    return refusal([&] { static_cast<void>(read(profiles)); });
  }

  Policy policy;
};

std::string open_device(const char* path) {
  const UniqueFd fd(open(path, O_RDWR | O_CLOEXEC));
  return fd ? "opened" : strerrorname_np(errno);
}

}  // namespace

TEST_CASE_METHOD(OnloadSite, "recorded Onload: a rank's /dev has the driver's nodes, and its files are the host's") {
  const Onload onload = read({"latency"});
  CHECK(onload.version == "Onload 9.0.2.140");
  CHECK(onload.library == "/opt/onload/usr/lib64/libonload.so");
  CHECK(onload.search_path == "/opt/onload/usr/lib64");
  using Action = EnvironmentChange::Action;
  CHECK(onload.settings ==
        std::vector<EnvironmentChange>{{Action::set, "EF_POLL_USEC", "100000"}, {Action::set, "EF_PIO", "0"}});
  // The image has an Onload of its own, which nobody must meet; another library of the host stays there.
  const OpenImage image = open(make_tree("tree",
                                         "mkdir -p usr/bin opt/onload/usr/lib64 usr/libexec/onload/profiles && "
                                         "echo image > usr/bin/onload && "
                                         "echo image > opt/onload/usr/lib64/libonload.so && "
                                         "echo image > usr/libexec/onload/profiles/latency.opf"));
  MountPolicy with_onload = mounts;
  with_onload.always = onload.mounts;
  with_onload.devices = {"/dev/onload*"};  // a site may have helped itself before
  RootfsRequest request = this->request(image);
  request.policy = &with_onload;
  request.devices = onload.devices;
  const UniqueFd rootfs = build_rootfs(request);
  CHECK(as_rank(rootfs, [] { return slurp("/usr/bin/onload"); }) == "host-script\n");
  CHECK(as_rank(rootfs, [] { return slurp("/opt/onload/usr/lib64/libonload.so").substr(0, 4); }) == "code");
  CHECK(as_rank(rootfs, [] { return slurp("/opt/onload/usr/lib64/libonload_ext.so.2"); }) == "extension\n");
  CHECK(as_rank(rootfs, [] { return slurp("/opt/onload/usr/lib64/libother.so"); }) == "errno ENOENT");
  CHECK_THAT(as_rank(rootfs, [] { return slurp("/usr/libexec/onload/profiles/latency.opf"); }),
             ContainsSubstring("onload_import"));
  CHECK(as_rank(rootfs, [] { return open_device("/usr/bin/onload"); }) == "EACCES");
  // As the host's owner and mode say: the group has onload, everybody onload_epoll, and root alone sfc_char.
  CHECK(as_rank(rootfs, [] { return open_device("/dev/onload"); }) == "ENXIO");
  CHECK(as_rank(rootfs, [] { return open_device("/dev/onload_epoll"); }) == "ENXIO");
  CHECK(as_rank(rootfs, [] { return open_device("/dev/sfc_char"); }) == "EACCES");
  CHECK(as_rank(rootfs, [] { return open_device("/dev/sfc_affinity"); }) == "ENOENT");
  CHECK_THAT(as_rank(rootfs, [] { return refusal([] { run_onload_self_test({"onload"}); }); }),
             ContainsSubstring("self-test failed at '/dev/onload'") && ContainsSubstring("fix: no driver"));
  CHECK_THAT(as_rank(rootfs, [] { return refusal([] { run_onload_self_test({"sfc_char"}); }); }),
             ContainsSubstring("ONLOAD_GROUP"));
}

TEST_CASE_METHOD(OnloadSite, "recorded Onload: without an image the host's own files are used") {
  const Onload onload = read({}, false);
  CHECK(onload.library == "/mnt/onload/lib64/libonload.so");
  CHECK(onload.search_path.empty());
  CHECK(onload.mounts.empty());
  CHECK(onload.devices.size() == 3);
}

TEST_CASE_METHOD(OnloadSite, "recorded Onload: an older release's fourth device comes along") {
  register_devices({"onload", "onload_epoll", "sfc_char", "sfc_affinity"});
  CHECK_THAT(refused(), ContainsSubstring("no device '/dev/sfc_affinity'"));
  run(fmt::format("mknod -m 640 /dev/sfc_affinity c {} 0", kMajor + 3));
  const Onload onload = read();
  REQUIRE(onload.devices.size() == 4);
  CHECK(onload.devices[3].path == "sfc_affinity");
  CHECK(onload.devices[3].mode == 0640);
}

TEST_CASE_METHOD(OnloadSite, "recorded Onload: whatever is missing or does not fit is named") {
  CHECK(refused().empty());
  CHECK_THAT(refused({"latncy"}), ContainsSubstring("usage berth: no Onload profile 'latncy'") &&
                                      ContainsSubstring("are latency, latency-best") &&
                                      ContainsSubstring("did you mean 'latency'?"));
  CHECK_THAT(refused({"base"}), ContainsSubstring("no Onload profile 'base'"));  // a fragment is none
  CHECK_THAT(refused({"latency-best"}), ContainsSubstring("/mnt/onload/profiles/latency-best.opf:3: "));

  install_library("Onload 8.1.3.40", kInterface);
  CHECK_THAT(refused(), ContainsSubstring("of different versions") && ContainsSubstring("Onload 8.1.3.40") &&
                            ContainsSubstring("Onload 9.0.2.140"));
  install_library("Onload 9.0.2.140", "00000000000000000000000000000000");
  CHECK_THAT(refused(), ContainsSubstring("of different builds") && ContainsSubstring(kInterface));
  install_library("Onload 9.0.2.140", kInterface);
  load_module("9.0.1.86", kInterface);
  CHECK_THAT(refused(), ContainsSubstring("the module Onload 9.0.1.86"));
  run("rm /proc/driver/onload/version");
  CHECK_THAT(refused(), ContainsSubstring("no /proc/driver/onload/version"));
  load_module("9.0.2.140", kInterface);

  run("mv /mnt/onload/lib64/libonload.so /mnt/onload/away");
  CHECK_THAT(refused(), ContainsSubstring("module is loaded, but there is no library: /mnt/onload/lib64/libonload.so"));
  register_devices({});
  CHECK_THAT(refused(), ContainsSubstring("neither its kernel module nor its library"));
  run("mv /mnt/onload/away /mnt/onload/lib64/libonload.so");
  CHECK_THAT(refused(), ContainsSubstring("is not loaded") && ContainsSubstring("no onload, onload_epoll, sfc_char") &&
                            ContainsSubstring("modprobe onload"));
  register_devices({"onload", "onload_epoll"});
  CHECK_THAT(refused(), ContainsSubstring("not complete: /proc/devices has no sfc_char"));
  register_devices({"onload", "onload_epoll", "sfc_char"});
  run("mv /mnt/onload/bin/onload /mnt/onload/bin/away");
  CHECK_THAT(refused(), ContainsSubstring("no command '/mnt/onload/bin/onload'"));
  run("mv /mnt/onload/bin/away /mnt/onload/bin/onload");

  policy.onload.enabled = false;
  CHECK_THAT(refused(), ContainsSubstring("policy berth: ") && ContainsSubstring("[onload]"));
}

TEST_CASE_METHOD(OnloadSite, "recorded Onload: a node of another number is never handed on") {
  // As after a reload: the module has new numbers, and the file is what the last one left.
  register_devices({"other", "onload", "onload_epoll", "sfc_char"});
  CHECK_THAT(refused(), ContainsSubstring(fmt::format("'/dev/onload' is device {}:0", kMajor)) &&
                            ContainsSubstring(fmt::format("has {}:0", kMajor + 1)));
  register_devices({"onload", "onload_epoll", "sfc_char"});
  run("rm /dev/onload && ln -s null /dev/onload");
  CHECK_THAT(refused(), ContainsSubstring("there is no device '/dev/onload'"));
}

TEST_CASE_METHOD(OnloadSite,
                 "recorded Onload: a rank's cgroup may open Onload's devices only if it runs under Onload") {
  run("chmod 666 /dev/sfc_char");
  const auto open_all = [] {
    return open_device("/dev/onload") + ' ' + open_device("/dev/onload_epoll") + ' ' + open_device("/dev/sfc_char");
  };
  // Tries when it is told to, and says what it got.
  const auto try_in_cgroup = [&](const std::vector<DeviceNumber>& allowed) {
    run("rm -f /mnt/go /mnt/answer");
    Child rank([] {});
    RdmaSettings settings;
    settings.device_rules = true;
    RankCgroups cgroups;
    cgroups.apply({{rank.pid(), fmt::format("onload-test-{}", rank.pid()), &settings, {}, allowed}});
    const CgroupTree tree = CgroupTree::unified();
    const std::string path = tree.path_of(rank.pid());
    Child probe([&] {
      tree.move_process(getpid(), path);
      std::ofstream("/mnt/answer") << open_all();
    });
    return slurp("/mnt/answer");
  };
  CHECK(open_all() == "ENXIO ENXIO ENXIO");
  CHECK(try_in_cgroup({}) == "EPERM EPERM EPERM");
  CHECK(try_in_cgroup({{kMajor, 0}, {kMajor + 1, 0}}) == "ENXIO ENXIO EPERM");
  CHECK(open_all() == "ENXIO ENXIO ENXIO");
}
