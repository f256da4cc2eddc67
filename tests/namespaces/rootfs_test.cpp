#include "launcher/image/rootfs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "launcher/image/child.hpp"
#include "launcher/system/mounts.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::holds;
using berth::testing::ImageSite;
using berth::testing::output_of;
using berth::testing::refusal;
using berth::testing::run;
using berth::testing::slurp;

namespace {

std::string mode_of(const char* path) {
  struct stat status {};
  if (stat(path, &status) != 0) return std::string("errno ") + strerrorname_np(errno);
  return std::string(S_ISDIR(status.st_mode)   ? "d"
                     : S_ISCHR(status.st_mode) ? "c"
                                               : "-") +
         std::to_string(status.st_mode & 07777);
}

std::string file_system_of(const char* path) {
  struct statfs status {};
  if (statfs(path, &status) != 0) return std::string("errno ") + strerrorname_np(errno);
  return status.f_type == SQUASHFS_MAGIC          ? "squashfs"
         : status.f_type == OVERLAYFS_SUPER_MAGIC ? "overlayfs"
                                                  : "another";
}

std::string try_write(const char* path) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  return fd ? "written" : std::string("errno ") + strerrorname_np(errno);
}

}  // namespace

TEST_CASE("a rank finds its root, home, devices, users and the host's shared places") {
  const ImageSite site;
  run("echo marker > /mnt/home/alice/job/in.dat");
  for (const std::string& image : {ImageSite::make_tree("tree"), ImageSite::make_squashfs("/mnt/images/a.sqsh"),
                                   ImageSite::make_sif("/mnt/images/a.sif")}) {
    CAPTURE(image);
    const UniqueFd rootfs = site.build(image);
    CHECK(site.as_rank(rootfs, [] { return output_of("/bin/probe"); }) == "4242 4242");
    CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/home/alice/job/in.dat"); }) == "marker\n");
    CHECK(site.as_rank(rootfs, [] { return try_write("/mnt/home/alice/new"); }) == "written");
    CHECK(site.as_rank(rootfs, [] { return try_write("/bin/new"); }).starts_with("errno E"));
    holds(site.as_rank(rootfs, [] { return slurp("/etc/passwd"); }),
          "alice:x:4242:4243:alice:/mnt/home/alice:/bin/sh\nroot:x:0:0");
    holds(site.as_rank(rootfs, [] { return slurp("/etc/group"); }), "alice:x:4243:\ng4244:x:4244:\n");
    CHECK(site.as_rank(rootfs, [] { return try_write("/etc/passwd"); }).starts_with("errno E"));
    CHECK(site.as_rank(rootfs, [] { return try_write("/dev/null"); }) == "written");
    CHECK(site.as_rank(rootfs, [] { return slurp("/dev/full").substr(0, 1); }) == std::string(1, '\0'));
    CHECK(site.as_rank(rootfs, [] { return mode_of("/dev"); }) == "d493");
    CHECK(site.as_rank(rootfs, [] { return mode_of("/dev/shm"); }).starts_with("d"));
    CHECK(site.as_rank(rootfs, [] { return mode_of("/dev/pts"); }).starts_with("d"));
    CHECK(site.as_rank(rootfs, [] { return mode_of("/sys/class/net"); }).starts_with("d"));
    CHECK(site.as_rank(rootfs, [] { return slurp("/proc/self/comm"); }).size() > 1);
    CHECK(site.as_rank(rootfs, [] { return std::filesystem::current_path().string(); }) == "/");
    CHECK(site.as_rank(rootfs, [] { return slurp("/etc/hosts"); }) == slurp("/etc/hosts"));
  }
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("nothing of the host's tree is left below or beside a rank's root") {
  const ImageSite site;
  run("echo host > /mnt/secret");
  const UniqueFd rootfs = site.build(ImageSite::make_squashfs("/mnt/images/a.sqsh"));
  CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/secret"); }) == "errno ENOENT");
  CHECK(site.as_rank(rootfs, [] { return slurp("/../../mnt/secret"); }) == "errno ENOENT");
  CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/images/a.sqsh"); }) == "errno ENOENT");
  const std::string mounts = site.as_rank(rootfs, [] { return slurp("/proc/self/mountinfo"); });
  INFO(mounts);
  CHECK(std::count(mounts.begin(), mounts.end(), '\n') < 30);
  CHECK(mounts.find(" /mnt/images ") == std::string::npos);
  CHECK(mounts.find(" shared:") == std::string::npos);
  // Root itself, with every trick of chroot, is confined to what is mounted in the namespace.
  const std::string seen = ask_child("cannot escape", std::chrono::seconds(10), [&] {
                             enter_rootfs(rootfs.get(), false);
                             if (mkdir("/tmp/berth-escape", 0700) != 0 && errno != EEXIST)
                               return ChildAnswer{"mkdir", {}};
                             if (chroot("/tmp/berth-escape") != 0) return ChildAnswer{"chroot", {}};
                             rmdir("/tmp/berth-escape");
                             for (int i = 0; i < 64; ++i)
                               if (chdir("..") != 0) break;
                             if (chroot(".") != 0) return ChildAnswer{"chroot", {}};
                             return ChildAnswer{slurp("/mnt/secret") + slurp("/bin/probe").substr(1, 3), {}};
                           }).text;
  CHECK(seen == "errno ENOENTELF");
  std::filesystem::remove("/tmp/berth-escape");
}

TEST_CASE("set-user-ID programs and device nodes of an image are inert") {
  const ImageSite site;
  const UniqueFd rootfs =
      site.build(ImageSite::make_squashfs("/mnt/images/a.sqsh", "chmod 4755 bin/probe; mknod -m 666 disk c 1 5"));
  CHECK(site.as_rank(rootfs, [] { return output_of("/bin/probe"); }) == "4242 4242");
  CHECK(site.as_rank(rootfs, [] { return slurp("/disk"); }) == "errno EACCES");
}

TEST_CASE("mount points that the image lacks are provided, the image's links stay inside") {
  ImageSite site;
  site.mounts.always = {{"/mnt/site/data", "/data/deep/site", true}};
  const std::string before = slurp("/etc/passwd");
  const std::string image = ImageSite::make_squashfs(
      "/mnt/images/a.sqsh", "rmdir sys tmp; rm -rf home; ln -s ../../../../etc home; ln -s /nowhere/real mnt");
  const OpenImage opened = site.open(image);
  RootfsRequest request = site.request(opened);
  request.mounts = {{"/mnt/site/data/file", "/home/alice/link-target", false}};
  site.mounts.allowed = {"/mnt/site"};
  run("chmod 666 /mnt/site/data/file");
  UniqueFd rootfs = build_rootfs(request);
  CHECK(site.as_rank(rootfs, [] { return slurp("/data/deep/site/file"); }) == "shared\n");
  CHECK(site.as_rank(rootfs, [] { return try_write("/data/deep/site/file"); }) == "errno EROFS");
  CHECK(site.as_rank(rootfs, [] { return slurp("/etc/alice/link-target"); }) == "shared\n");
  CHECK(site.as_rank(rootfs, [] { return slurp("/nowhere/real/home/alice/notes"); }) == "notes\n");
  CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/home/alice/notes"); }) == "notes\n");
  CHECK(site.as_rank(rootfs, [] { return mode_of("/tmp"); }) == "d1023");
  CHECK(slurp("/etc/passwd") == before);
  CHECK_FALSE(std::filesystem::exists("/etc/alice"));
  rootfs.reset();
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("only directories that lack a mount point are looked up through an overlay") {
  ImageSite site;
  site.mounts.always = {{"/mnt/site/data", "/opt/site/data", true}};
  const std::string image =
      ImageSite::make_squashfs("/mnt/images/a.sqsh", "mkdir -p opt/other usr/lib usr/empty; echo in > usr/lib/file");
  UniqueFd rootfs = site.build(image);
  CHECK(site.as_rank(rootfs, [] { return slurp("/usr/lib/file"); }) == "in\n");
  CHECK(site.as_rank(rootfs, [] { return mode_of("/opt/other"); }) == "d493");
  CHECK(site.as_rank(rootfs, [] { return slurp("/opt/site/data/file"); }) == "shared\n");
  CHECK(site.as_rank(rootfs, [] { return file_system_of("/usr/lib"); }) == "squashfs");
  CHECK(site.as_rank(rootfs, [] { return file_system_of("/bin"); }) == "squashfs");
  CHECK(site.as_rank(rootfs, [] { return file_system_of("/opt"); }) == "overlayfs");
  CHECK(site.as_rank(rootfs, [] { return try_write("/usr/lib/file"); }).starts_with("errno E"));
  rootfs.reset();
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("a directory image cannot make root read what its user may not") {
  const ImageSite site;
  const std::string image = ImageSite::make_tree("tree",
                                                 "echo secret > /mnt/images/secret; chmod 600 /mnt/images/secret; "
                                                 "ln -f /mnt/images/secret etc/passwd; ln -sf /dev/null etc/hosts");
  holds(refusal([&] { site.build(image); }), "EACCES");
  run("chmod 644 /mnt/images/secret");
  const UniqueFd rootfs = site.build(image);
  CHECK(site.as_rank(rootfs, [] { return slurp("/etc/passwd"); }).ends_with("secret\n"));
  CHECK(site.as_rank(rootfs, [] { return slurp("/etc/hosts"); }).empty());
}

TEST_CASE("images that put links or files where the system belongs are refused") {
  const ImageSite site;
  for (const std::string& name : {std::string("dev"), std::string("proc"), std::string("sys"), std::string("etc")}) {
    const std::string link = ImageSite::make_tree("link-" + name, "rm -rf " + name + "; ln -s /mnt/site " + name);
    holds(refusal([&] { site.build(link); }), "its /" + name + " is a symlink");
    const std::string file = ImageSite::make_tree("file-" + name, "rm -rf " + name + "; : > " + name);
    holds(refusal([&] { site.build(file); }), "its /" + name + " is a file");
  }
  const std::string redirect = ImageSite::make_tree("redirect", "ln -s /dev mnt");
  holds(refusal([&] { site.build(redirect); }), "leads from there to '/dev");
  const std::string fifo = ImageSite::make_tree("fifo", "rm etc/passwd; mkfifo etc/passwd");
  holds(refusal([&] { site.build(fifo); }), "not a regular file");
  const std::string circle = ImageSite::make_tree("circle", "ln -s mnt mnt");
  holds(refusal([&] { site.build(circle); }), "lead in a circle");
  const std::string through = ImageSite::make_tree("through", ": > mnt");
  holds(refusal([&] { site.build(through); }), "'/mnt' is not a directory");
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("users mount only what they may read and the policy allows") {
  ImageSite site;
  site.mounts.allowed = {"/mnt/site", "/mnt/scratch"};
  run("mkdir /mnt/site/closed /mnt/site2 && chmod 700 /mnt/site/closed && ln -s /etc /mnt/scratch/link && "
      "mkfifo /mnt/scratch/fifo && chmod 666 /mnt/scratch/fifo && mkdir -p '/mnt/scratch/a,b:c \\040'");
  const OpenImage image = site.open(ImageSite::make_tree("tree"));
  const auto mounting = [&](const std::string& source, const std::string& target, bool read_only = false) {
    RootfsRequest request = site.request(image);
    request.mounts = {{source, target, read_only}};
    return refusal([&] { build_rootfs(request); });
  };
  CHECK(mounting("/mnt/site/data", "/data").empty());
  CHECK(mounting("/mnt/scratch/a,b:c \\040", "/a,b:c \\040").empty());
  holds(mounting("/mnt/site2", "/data"), "policy berth: cannot mount '/mnt/site2' at '/data'");
  holds(mounting("/mnt/site/../site2", "/data"), "outside the allowed paths");
  holds(mounting("/mnt/scratch/link", "/data"), "'/etc' is outside");
  holds(mounting("/mnt/site/closed", "/data"), "you may read it");
  holds(mounting("/mnt/site/missing", "/data"), "No such file");
  holds(mounting("/mnt/scratch/fifo", "/data"), "neither a directory nor a regular file");
  holds(mounting("/proc/self/fd/3", "/data"), "cannot mount");
  holds(mounting("relative", "/data"), "must be absolute");
  holds(mounting("/mnt/site/data", "data"), "must be absolute");
  holds(mounting("/mnt/site/data", "/data/../../x"), "'..'");
  for (const char* target : {"/", "//", "/proc/1", "/proc", "/sys/class", "/dev/null", "/etc", "/etc/"})
    holds(mounting("/mnt/site/data", target), "Berth itself");
  holds(mounting("/mnt/site/data", "/etc/passwd"), "the image has a file there");
  holds(mounting("/mnt/site/data/file", "/bin"), "the image has a directory there");

  RootfsRequest request = site.request(image);
  request.mounts = {{"/mnt/site/data", "/data", true}, {"/mnt/scratch", "/scratch", false}};
  const UniqueFd rootfs = build_rootfs(request);
  CHECK(site.as_rank(rootfs, [] { return try_write("/scratch/new"); }) == "written");
  CHECK(site.as_rank(rootfs, [] { return try_write("/data/new"); }) == "errno EROFS");
  holds(site.as_rank(rootfs, [] { return slurp("/proc/self/mountinfo"); }), " /data ro,nosuid,nodev");
  run("ln -s / /mnt/home/alice/link");
  request.mounts = {{"/mnt/scratch", "/mnt/home/alice/link", false}};
  holds(refusal([&] { build_rootfs(request); }), "a symlink lies on the way");
  request.mounts = {{"/mnt/scratch", "/mnt/home/alice/missing", false}};
  holds(refusal([&] { build_rootfs(request); }), "create it there");
  request.mounts.assign(5000, {"/mnt/site/data", "/data", true});
  holds(refusal([&] { build_rootfs(request); }), "5000 mounts were asked for");
}

TEST_CASE("mounts of the host appear in a running rank, and never the other way round") {
  ImageSite site;
  site.mounts.always = {{"/mnt/site", "/site", false}};
  const UniqueFd rootfs = site.build(ImageSite::make_tree("tree"));
  run("mount -t tmpfs late /mnt/site/data && echo late > /mnt/site/data/late");
  CHECK(site.as_rank(rootfs, [] { return slurp("/site/data/late"); }) == "late\n");
  run("umount /mnt/site/data");
  ask_child("cannot mount", std::chrono::seconds(10), [&] {
    enter_rootfs(rootfs.get(), false);
    if (mount("tmpfs", "/site/data", "tmpfs", 0, nullptr) != 0) throw system_error(errno, "cannot mount", "mount");
    return ChildAnswer{};
  });
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("ranks in the host's network share one mount namespace, others have one each") {
  const ImageSite site;
  const OpenImage image = site.open(ImageSite::make_tree("tree"));
  RootfsRequest request = site.request(image);
  const auto namespace_and_nics = [] {
    return std::filesystem::read_symlink("/proc/self/ns/mnt").string() + " " + mode_of("/sys/class/net/lo/mtu");
  };
  for (const bool shared : {true, false}) {
    CAPTURE(shared);
    request.shared = shared;
    const UniqueFd rootfs = build_rootfs(request);
    const std::string first = site.as_rank(rootfs, namespace_and_nics, shared);
    CHECK((first == fmt::format("mnt:[{}] -420", read_status(rootfs.get(), "rootfs").st_ino)) == shared);
    CHECK(first.ends_with(" -420"));
    CHECK(site.as_rank(
                  rootfs, [] { return try_write("/sys/class/net/lo/mtu"); }, shared)
              .starts_with("errno E"));
    CHECK(site.as_rank(
              rootfs, [] { return std::filesystem::current_path().string(); }, shared) == "/");
  }
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("an image served by squashfuse makes a root as well") {
  const ImageSite site;
  run("mv " + ImageSite::make_squashfs("/mnt/images/a.sqsh", "rmdir sys") +
      " /mnt/scratch/a.sqsh && chown 4242 /mnt/scratch/a.sqsh");
  {
    const UniqueFd rootfs = site.build("/mnt/scratch/a.sqsh");
    CHECK(site.as_rank(rootfs, [] { return output_of("/bin/probe"); }) == "4242 4242");
    CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/home/alice/notes"); }) == "notes\n");
  }
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("devices that the policy lists are there, with the host's mode and owner") {
  ImageSite site;
  site.mounts.devices = {"/dev/loop-contr*", "/dev/fus?", "/dev/net"};
  const UniqueFd rootfs = site.build(ImageSite::make_tree("tree"));
  CHECK(site.as_rank(rootfs, [] { return mode_of("/dev/fuse"); }) == mode_of("/dev/fuse"));
  CHECK(site.as_rank(rootfs, [] { return mode_of("/dev/loop0"); }) == "errno ENOENT");
  site.mounts.devices = {"/etc/*"};
  holds(refusal([&] { site.build("/mnt/images/tree"); }), "begin with /dev/");
}

TEST_CASE("home and working directory that cannot be used are left out, runtime directories are bound") {
  ImageSite site;
  run("chmod 700 /mnt/home/alice && mkdir -p /mnt/spool/pmix && echo uri > /mnt/spool/pmix/file");
  const OpenImage image = site.open(ImageSite::make_tree("tree"));
  RootfsRequest request = site.request(image);
  request.home = "/mnt/home/nobody";
  request.working_directory = "/usr/share";
  request.runtime_directories = {"/mnt/spool/pmix", "/mnt/spool/gone", "/tmp"};
  UniqueFd rootfs = build_rootfs(request);
  CHECK(site.as_rank(rootfs, [] { return mode_of("/mnt/home/nobody"); }) == "errno ENOENT");
  CHECK(site.as_rank(rootfs, [] { return mode_of("/usr/share"); }) == "errno ENOENT");
  CHECK(site.as_rank(rootfs, [] { return slurp("/mnt/spool/pmix/file"); }) == "uri\n");
  request.user = {4300, 4300, {}};
  request.home = "/mnt/home/alice";
  request.working_directory = "/mnt/home/alice/job";
  rootfs = build_rootfs(request);
  CHECK(site.as_rank(rootfs, [] { return mode_of("/mnt/home/alice"); }) == "errno ENOENT");
}

TEST_CASE("a rank without an image keeps the host's tree, with a /sys of its own network namespace") {
  const ImageSite site;
  const auto submounts_of_sys = [] {
    std::vector<std::string> points;
    const std::string text = slurp("/proc/self/mountinfo");
    for (std::size_t at = text.find(" /sys/"); at != std::string::npos; at = text.find(" /sys/", at + 1))
      points.push_back(text.substr(at + 1, text.find(' ', at + 1) - at - 1));
    std::sort(points.begin(), points.end());
    std::string joined;
    for (const std::string& point : points) joined += point + '\n';
    return joined;
  };
  const std::string answer = ask_child("cannot run the rank", std::chrono::seconds(10), [&] {
                               if (unshare(CLONE_NEWNET) != 0) throw system_error(errno, "cannot unshare", "unshare");
                               enter_host_tree();
                               std::string devices;
                               for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net"))
                                 devices += entry.path().filename().string() + ' ';
                               return ChildAnswer{devices + '\n' + submounts_of_sys(), {}};
                             }).text;
  CHECK(answer.starts_with("lo "));
  CHECK(answer.find("eth") == std::string::npos);
  CHECK(answer.substr(answer.find('\n') + 1) == submounts_of_sys());
  CHECK(site.machine_is_unchanged());
}
