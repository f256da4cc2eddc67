#include "launcher/image/parked_images.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/image/child.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/polling.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::holds;
using berth::testing::ImageSite;
using berth::testing::refusal;
using berth::testing::run;
using berth::testing::slurp;

namespace {

const std::string kState = "/mnt/state";
const std::string kImage = "/mnt/images/a.sqsh";

/// The number of the file system that is mounted there, as only one mount of a loop device has it.
dev_t file_system_of(const UniqueFd& mount) { return read_status(mount.get(), "the image").st_dev; }

/// A file in the image.
std::string read_in(const UniqueFd& mount, const std::string& path) {
  return slurp(fmt::format("/proc/self/fd/{}/{}", mount.get(), path));
}

/// The kernel's clock for files ticks every few milliseconds: waits until a change would show in the image's file.
void await_next_tick() {
  const auto changed = [](const std::string& path) {
    struct stat file {};
    REQUIRE(stat(path.c_str(), &file) == 0);
    return std::pair(file.st_ctim.tv_sec, file.st_ctim.tv_nsec);
  };
  REQUIRE(poll_until(std::chrono::seconds(1), [&] {
    run("touch /mnt/clock");
    return changed("/mnt/clock") > changed(kImage);
  }));
}

void unpark_everything() {
  for (const ParkedImage& image : read_parked_images(kState)) unpark_image(kState, image);
  REQUIRE(rmdir((kState + "/images").c_str()) == 0);
  REQUIRE(rmdir(kState.c_str()) == 0);
}

}  // namespace

TEST_CASE("a parked image is the same file system for every run, and read-only, nosuid and nodev") {
  const ImageSite site;
  for (const bool sif : {false, true}) {
    const std::string path = sif ? ImageSite::make_sif("/mnt/images/a.sif") : ImageSite::make_squashfs(kImage);
    CHECK_FALSE(clone_parked_image(kState, site.open(path)));
    CHECK(park_image(kState, site.open(path)));
    CHECK_FALSE(park_image(kState, site.open(path)));
    CHECK(is_parked(kState, path));
    {
      const UniqueFd first = clone_parked_image(kState, site.open(path));
      const UniqueFd second = clone_parked_image(kState, site.open(path));
      REQUIRE(first);
      REQUIRE(second);
      CHECK(file_system_of(first) == file_system_of(second));
      struct statvfs status {};
      REQUIRE(fstatvfs(first.get(), &status) == 0);
      CHECK((status.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV)) == (ST_RDONLY | ST_NOSUID | ST_NODEV));
      CHECK(file_system_of(mount_image(site.open(path), site.user)) != file_system_of(first));
    }
    const auto parked = read_parked_images(kState);
    REQUIRE(parked.size() == 1);
    CHECK(parked.front().path == path);
    unpark_everything();
    CHECK_FALSE(is_parked(kState, path));
    CHECK(site.machine_is_unchanged());
  }
}

TEST_CASE("a rank runs in a parked image, and what is mounted for it is on no other's copy") {
  const ImageSite site;
  ImageSite::make_squashfs(kImage);
  park_image(kState, site.open(kImage));
  const OpenImage image = site.open(kImage);
  for (int round = 0; round < 2; ++round) {
    const UniqueFd mount = clone_parked_image(kState, image);
    RootfsRequest request = site.request(image);
    request.image_mount = &mount;
    const UniqueFd rootfs = build_rootfs(request);
    CHECK(site.as_rank(rootfs, [] { return testing::output_of("/bin/probe"); }) == "4242 4242");
    const std::string mounts = slurp("/proc/self/mountinfo");
    CHECK(mounts.find(kState + "/images/" + parking_key(image) + "/proc") == std::string::npos);
  }
  unpark_everything();
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("a file that was replaced or written to is not the image that was parked") {
  const ImageSite site;
  const std::string other = ImageSite::make_squashfs("/mnt/images/other.sqsh", "echo other > etc/name");
  for (const char* change :
       {"mv /mnt/images/copy.sqsh /mnt/images/a.sqsh", "cat /mnt/images/copy.sqsh > /mnt/images/a.sqsh"}) {
    CAPTURE(change);
    ImageSite::make_squashfs(kImage, "echo first > etc/name");
    run("cp " + other + " /mnt/images/copy.sqsh");
    park_image(kState, site.open(kImage));
    await_next_tick();
    run(change);
    CHECK_FALSE(is_parked(kState, kImage));
    CHECK_FALSE(clone_parked_image(kState, site.open(kImage)));
    CHECK(park_image(kState, site.open(kImage)));
    CHECK(read_in(clone_parked_image(kState, site.open(kImage)), "etc/name") == "other\n");
    CHECK(read_parked_images(kState).size() == 2);
    unpark_everything();
  }
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("unparking leaves a run its image, and the loop device goes with the last run") {
  const ImageSite site;
  ImageSite::make_squashfs(kImage, "echo first > etc/name");
  park_image(kState, site.open(kImage));
  UniqueFd mount = clone_parked_image(kState, site.open(kImage));
  unpark_everything();
  CHECK(read_in(mount, "etc/name") == "first\n");
  CHECK_FALSE(site.machine_is_unchanged());
  mount.reset();
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("what a user may write, what has an incomplete sector, and directories are not parked") {
  const ImageSite site;
  const std::string path = ImageSite::make_squashfs(kImage);
  run("cp " + path + " /mnt/scratch/u.sqsh && chown 4242:4243 /mnt/scratch/u.sqsh");
  holds(refusal([&] { park_image(kState, site.open("/mnt/scratch/u.sqsh")); }), "policy berth: cannot park image");
  const std::string tree = ImageSite::make_tree("tree");
  holds(refusal([&] { park_image(kState, site.open(tree)); }), "it is a directory");
  run("cd /mnt/images && mksquashfs tree n.sqsh -nopad -noappend -quiet -no-progress > /dev/null");
  holds(refusal([&] { park_image(kState, site.open("/mnt/images/n.sqsh")); }), "whole sector");
  CHECK(read_parked_images(kState).empty());
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("only root reaches what is parked") {
  const ImageSite site;
  ImageSite::make_squashfs(kImage);
  park_image(kState, site.open(kImage));
  const std::string inside = kState + "/images/" + parking_key(site.open(kImage)) + "/bin/probe";
  const auto reach = [&](bool as_user) {
    return ask_child("cannot look", std::chrono::seconds(10),
                     [&] {
                       if (as_user) drop_to_user(site.user);
                       return ChildAnswer{access(inside.c_str(), R_OK) == 0 ? "reached" : "refused", {}};
                     })
        .text;
  };
  CHECK(reach(false) == "reached");
  CHECK(reach(true) == "refused");
  unpark_everything();
}
