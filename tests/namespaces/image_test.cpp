#include "launcher/image/image.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "launcher/core/error.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::holds;
using berth::testing::ImageSite;
using berth::testing::refusal;
using berth::testing::run;

namespace {

/// Mounts the image and looks whether the program in it is there.
bool mounts_well(const OpenImage& image, const Credentials& user) {
  const UniqueFd mount = mount_image(image, user);
  struct stat status {};
  return fstatat(mount.get(), "bin/probe", &status, 0) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

TEST_CASE("directories, squashfs and SIF images are recognised and mounted") {
  const ImageSite site;
  const std::string tree = ImageSite::make_tree("tree");
  const std::string squashfs = ImageSite::make_squashfs("/mnt/images/a.sqsh");
  const std::string sif = ImageSite::make_sif("/mnt/images/a.sif");

  OpenImage image = site.open(tree);
  CHECK(image.format == ImageFormat::directory);
  CHECK(mounts_well(image, site.user));

  image = site.open("a.sqsh");  // relative to the working directory
  CHECK(image.path == squashfs);
  CHECK(image.format == ImageFormat::squashfs);
  CHECK(image.kernel_mountable);
  CHECK(mounts_well(image, site.user));

  image = site.open(sif);
  CHECK(image.format == ImageFormat::sif);
  CHECK(image.offset == 36864);
  CHECK(image.kernel_mountable);
  CHECK(mounts_well(image, site.user));
  image = {};
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("an image that users can write goes through squashfuse, whose process dies with the mount") {
  const ImageSite site;
  for (const bool sif : {false, true}) {
    const std::string path =
        sif ? ImageSite::make_sif("/mnt/images/u.sif") : ImageSite::make_squashfs("/mnt/images/u.sqsh");
    run("mv " + path + " /mnt/scratch/ && chown 4242:4243 /mnt/scratch/u.*");
    OpenImage image = site.open("/mnt/scratch/" + std::filesystem::path(path).filename().string());
    CHECK_FALSE(image.kernel_mountable);
    CHECK(mounts_well(image, site.user));
    image = {};
    CHECK(site.machine_is_unchanged());
  }
}

TEST_CASE("the kernel parses an image only if root alone can write it, all the way up") {
  ImageSite site;
  const std::string path = ImageSite::make_squashfs("/mnt/images/a.sqsh");
  CHECK(site.open(path).kernel_mountable);
  for (const char* target : {"/mnt/images/a.sqsh", "/mnt/images", "/mnt"}) {
    CAPTURE(target);
    for (const char* change : {"chmod g+w", "chmod o+w", "chown 4242"}) {
      CAPTURE(change);
      run(std::string(change) + ' ' + target);
      CHECK_FALSE(site.open(path).kernel_mountable);
      run(std::string("chown 0 ") + target + " && chmod go-w " + target);
    }
  }
  CHECK(site.open(path).kernel_mountable);
  site.images.kernel_mount = KernelMount::never;
  CHECK_FALSE(site.open(path).kernel_mountable);
}

TEST_CASE("an image whose last sector is incomplete still mounts") {
  const ImageSite site;
  const std::string tree = ImageSite::make_tree("tree");
  run("cd /mnt/images && mksquashfs tree n.sqsh -nopad -noappend -quiet -no-progress > /dev/null");
  CHECK(mounts_well(site.open("/mnt/images/n.sqsh"), site.user));
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("only images below the allowed paths are used, and paths are compared by components") {
  const ImageSite site;
  const std::string path = ImageSite::make_squashfs("/mnt/images/a.sqsh");
  run("cp " + path +
      " /mnt/scratch2/a.sqsh && ln -s /mnt/scratch2/a.sqsh /mnt/scratch/link.sqsh && "
      "ln -s /mnt/images/a.sqsh /mnt/scratch2/to-allowed.sqsh");
  holds(refusal([&] { site.open("/mnt/scratch2/a.sqsh"); }), "policy berth: cannot use image '/mnt/scratch2/a.sqsh'");
  holds(refusal([&] { site.open("/mnt/scratch/../scratch2/a.sqsh"); }), "outside the allowed paths");
  holds(refusal([&] { site.open("/mnt/scratch/link.sqsh"); }), "'/mnt/scratch2/a.sqsh' is outside");
  CHECK(site.open("/mnt/scratch2/to-allowed.sqsh").path == path);
  CHECK_THROWS_AS(open_image(path, "/", site.user, ImagePolicy{}), Error);
}

TEST_CASE("files that are no images are named for what they are, and nothing hangs") {
  const ImageSite site;
  ImageSite::make_squashfs("/mnt/images/a.sqsh");
  run("cd /mnt/images && : > zero.sif && mkfifo fifo.sif && mknod zero-device.sif c 1 5 && mknod loop.sif b 7 0 && "
      "echo text > text.sif && head -c 2000 a.sqsh > cut.sqsh && truncate -s 8E sparse.sif 2>/dev/null || "
      "truncate -s 1P sparse.sif; cp a.sqsh secret.sqsh && chmod 600 secret.sqsh && mkdir closed && chmod 700 closed");
  const auto opening = [&](const std::string& name) { return refusal([&] { site.open("/mnt/images/" + name); }); };
  holds(opening("zero.sif"), "the file is empty");
  holds(opening("fifo.sif"), "neither a file nor a directory");
  holds(opening("zero-device.sif"), "neither a file nor a directory");
  holds(opening("loop.sif"), "neither a file nor a directory");
  holds(opening("text.sif"), "neither a SIF nor a squashfs");
  holds(opening("sparse.sif"), "neither a SIF nor a squashfs");
  holds(opening("cut.sqsh"), "truncated");
  holds(opening("secret.sqsh"), "EACCES");
  holds(opening("closed"), "EACCES");
  holds(opening("missing.sif"), "ENOENT");
  holds(refusal([&] { site.open("docker://debian"); }), "convert it first");
  CHECK(site.machine_is_unchanged());
}

TEST_CASE("nothing of what root may do helps to open an image") {
  ImageSite site;
  const std::string tree = ImageSite::make_tree("tree");
  const auto opening = [&](const std::string& path) { return refusal([&] { site.open(path); }); };
  // Through a process that the user may not look into, though the tree itself is open to all.
  const std::string detour = "/proc/" + std::to_string(getpid()) + "/root";
  CHECK(site.open(tree).path == tree);
  holds(opening(detour + tree), "EACCES");
  run("cd /mnt/images && cp -r tree locked && chown 4242:4243 locked && chmod 0 locked && mkdir ../scratch/closed && "
      "cp -r tree ../scratch/closed && chown -R 4242:4243 ../scratch/closed && chmod 700 ../scratch/closed");
  holds(opening("/mnt/images/locked"), "EACCES");
  CHECK(opening("/mnt/scratch/closed/tree").empty());
  site.user = {0, 0, {0}};
  holds(opening("/mnt/scratch/closed/tree"), "EACCES");
}

TEST_CASE("a corrupt squashfs is refused and leaves nothing") {
  const ImageSite site;
  for (const char* directory : {"/mnt/images", "/mnt/scratch"}) {  // the kernel, and squashfuse
    const std::string path = ImageSite::make_squashfs("/mnt/images/a.sqsh");
    const std::string bad = std::string(directory) + "/bad.sqsh";
    // Everything behind the superblock is overwritten; its own checks still pass.
    run("cp " + path + " /mnt/images/tmp.sqsh && size=$(stat -c %s " + path +
        ") && head -c $((size - 96)) /dev/zero | tr '\\0' '\\377' | "
        "dd of=/mnt/images/tmp.sqsh bs=96 seek=1 conv=notrunc status=none && mv /mnt/images/tmp.sqsh " +
        bad);
    const OpenImage image = site.open(bad);
    CHECK(image.kernel_mountable == (std::string(directory) == "/mnt/images"));
    holds(refusal([&] { mount_image(image, site.user); }), "image berth: cannot mount image");
  }
  CHECK(site.machine_is_unchanged());
}
