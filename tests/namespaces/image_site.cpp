#include "tests/namespaces/image_site.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/image/child.hpp"
#include "launcher/image/sif.hpp"
#include "tests/namespaces/private_namespaces.hpp"
#include "tests/sif_writer.hpp"

namespace berth::testing {

namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string drop_line_end(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

// Only what belongs to this site: other tests may run beside this one.
std::string read_machine() {
  std::vector<std::string> lines;
  struct stat site {};
  stat("/mnt", &site);
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (read_text(entry.path() / "loop/backing_file").empty()) continue;
    const UniqueFd device(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info{};
    if (device && ioctl(device.get(), LOOP_GET_STATUS64, &info) == 0 && info.lo_device == site.st_dev)
      lines.push_back(name + '\n');
  }
  std::error_code ignored;
  const auto own = std::filesystem::read_symlink("/proc/self/ns/mnt");
  for (const auto& entry : std::filesystem::directory_iterator("/proc"))
    if (const std::string command = read_text(entry.path() / "comm");
        command.starts_with("squashfuse") && std::filesystem::read_symlink(entry.path() / "ns/mnt", ignored) == own)
      lines.push_back(entry.path().filename().string() + ' ' + command);
  std::sort(lines.begin(), lines.end());
  std::string machine = read_text("/proc/self/mountinfo") + read_text("/proc/1/mountinfo");
  for (const std::string& line : lines) machine += line;
  return machine;
}

ImageSite::ImageSite() {
  enter_private_namespaces();
  // As systemd leaves it, so that whatever would spread to the host does spread, and is seen.
  REQUIRE(mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) == 0);
  REQUIRE(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755") == 0);
  run("mkdir -p /mnt/images /mnt/scratch /mnt/scratch2 /mnt/home/alice/job /mnt/site/data && "
      "chown -R 4242:4243 /mnt/scratch /mnt/scratch2 /mnt/home/alice && echo notes > /mnt/home/alice/notes && "
      "echo shared > /mnt/site/data/file");
  machine_ = read_machine();
}

ImageSite::~ImageSite() {
  umount2("/mnt", MNT_DETACH);
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
}

std::string ImageSite::make_tree(const std::string& name, const std::string& commands) {
  const std::string path = "/mnt/images/" + name;
  run(
      fmt::format("mkdir -p {0} && cd {0} && umask 022 && mkdir bin dev etc home proc sys tmp var && "
                  "chmod 1777 tmp && cp {1} bin/probe && "
                  "echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd && echo 'root:x:0:' > etc/group && ( {2} )",
                  path, BERTH_CONTAINER_PROBE, commands.empty() ? "true" : commands));
  return path;
}

std::string ImageSite::make_squashfs(const std::string& path, const std::string& commands) {
  const std::string tree = make_tree("tree-to-pack", commands);
  run(fmt::format("mksquashfs {0} {1} -noappend -quiet -no-progress > /dev/null && rm -rf {0} && chmod 644 {1}", tree,
                  path));
  return path;
}

std::string ImageSite::make_sif(const std::string& path, const std::string& commands) {
  const std::string squashfs = make_squashfs(path + ".sqsh", commands);
  std::ofstream(path) << testing::make_sif(read_text(squashfs), std::string(native_sif_architecture()));
  run(fmt::format("rm {}.sqsh && chmod 644 {}", path, path));
  return path;
}

OpenImage ImageSite::open(const std::string& path) const { return open_image(path, "/mnt/images", user, images); }

RootfsRequest ImageSite::request(const OpenImage& image) const {
  return {.image = &image,
          .user = user,
          .user_name = "alice",
          .home = "/mnt/home/alice",
          .working_directory = "/mnt/home/alice/job",
          .mounts = {},
          .runtime_directories = {},
          .session_directories = {},
          .policy = &mounts};
}

UniqueFd ImageSite::build(const std::string& path) const {
  const OpenImage image = open(path);
  return build_rootfs(request(image));
}

std::string ImageSite::as_rank(const UniqueFd& rootfs, const std::function<std::string()>& body, bool shared) const {
  return ask_child("cannot run the rank", std::chrono::seconds(20),
                   [&] {
                     enter_rootfs(rootfs.get(), shared);
                     drop_to_user(user);
                     return ChildAnswer{body(), {}};
                   })
      .text;
}

bool ImageSite::machine_is_unchanged() const {
  constexpr int tries = 100;
  for (int i = 0; i < tries; ++i) {
    if (read_machine() == machine_) return true;
    poll(nullptr, 0, 50);
  }
  UNSCOPED_INFO("before:\n" << machine_ << "\nafter:\n" << read_machine());
  return false;
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return fmt::format("{} {}", to_string(error.code), error.render());
  }
  return {};
}

void holds(const std::string& text, std::string_view part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

std::string slurp(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::string("errno ") + strerrorname_np(errno);
  std::array<char, 65536> text{};
  const ssize_t n = read(fd.get(), text.data(), text.size());
  if (n < 0) return std::string("errno ") + strerrorname_np(errno);
  return {text.data(), static_cast<std::size_t>(n)};
}

std::string output_of(const std::string& program) {
  int ends[2];
  if (pipe(ends) != 0) return "pipe failed";
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(program.c_str(), program.c_str(), nullptr);
    dprintf(STDOUT_FILENO, "errno %s", strerrorname_np(errno));
    _exit(127);
  }
  close(ends[1]);
  std::array<char, 4096> text{};
  const ssize_t n = read(ends[0], text.data(), text.size());
  close(ends[0]);
  return drop_line_end({text.data(), n > 0 ? static_cast<std::size_t>(n) : 0});
}

}  // namespace berth::testing
