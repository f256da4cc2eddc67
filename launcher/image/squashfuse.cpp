#include "launcher/image/squashfuse.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>

#include "launcher/image/child.hpp"
#include "launcher/system/cgroup.hpp"
#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr std::chrono::seconds kServerPatience{30};
constexpr const char* kPrograms[] = {"/usr/bin/squashfuse_ll", "/usr/bin/squashfuse", "/usr/local/bin/squashfuse_ll",
                                     "/usr/local/bin/squashfuse"};
// Descriptors of the server after exec; libfuse takes a mount point "/dev/fd/N" for a FUSE device that is open already.
constexpr int kImageFd = 3;
constexpr int kFuseFd = 4;

std::string cannot_mount(const OpenImage& image) { return fmt::format("cannot mount image '{}'", image.path); }

const char* find_server(const OpenImage& image) {
  for (const char* program : kPrograms)
    if (access(program, X_OK) == 0) return program;
  throw Error(
      ErrorCode::host, cannot_mount(image),
      "the kernel may not parse an image that users can write to, or of ranks without berth-enter, and the program "
      "squashfuse is missing",
      "install the package squashfuse on this node, or have the administrator put the image in a directory that "
      "only root can write to");
}

UniqueFd mount_fuse(int device, const Credentials& user) {
  // allow_other: the rank's root is prepared by root; the mount is never visible outside the ranks' namespaces.
  return create_mount("fuse",
                      {{"source", "squashfuse"},
                       {"subtype", "squashfuse"},
                       {"fd", std::to_string(device)},
                       {"rootmode", "40000"},
                       {"user_id", std::to_string(user.uid)},
                       {"group_id", std::to_string(user.gid)},
                       {"allow_other", ""},
                       {"default_permissions", ""}},
                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

// dup2 onto a number that one of the sources occupies would lose it: first out of the way, then into place.
void place_descriptors(int image, int device, int messages) {
  constexpr int clear_of_targets = 16;
  const int high_image = fcntl(image, F_DUPFD, clear_of_targets);
  const int high_device = fcntl(device, F_DUPFD, clear_of_targets);
  const int high_messages = fcntl(messages, F_DUPFD, clear_of_targets);
  const int null = open("/dev/null", O_RDWR);
  const bool placed = dup2(null, STDIN_FILENO) >= 0 && dup2(high_messages, STDOUT_FILENO) >= 0 &&
                      dup2(high_messages, STDERR_FILENO) >= 0 && dup2(high_image, kImageFd) >= 0 &&
                      dup2(high_device, kFuseFd) >= 0 && close_range(kFuseFd + 1, ~0U, 0) == 0;
  if (!placed) _exit(kExitRefused);
}

// The process that becomes the server.
[[noreturn]] void run_server(const char* program, const OpenImage& image, const Credentials& user) {
  try {
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (chdir("/") != 0) _exit(kExitRefused);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    drop_to_user(user);
  } catch (const Error& error) {
    dprintf(STDERR_FILENO, "%s", error.why.c_str());
    _exit(kExitRefused);
  }
  const std::string options = fmt::format("offset={}", image.offset);
  const std::string image_path = fmt::format("/proc/self/fd/{}", kImageFd);
  const std::string mount_point = fmt::format("/dev/fd/{}", kFuseFd);
  const char* arguments[] = {program, "-f", "-o", options.c_str(), image_path.c_str(), mount_point.c_str(), nullptr};
  const char* environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", nullptr};
  execve(program, const_cast<char**>(arguments), const_cast<char**>(environment));
  dprintf(STDERR_FILENO, "cannot execute %s: %s", program, strerrordesc_np(errno));
  _exit(kExitNotExecutable);
}

// Twice forked, so that the server is nobody's child who would have to wait for it.
void start_server(const char* program, const OpenImage& image, int device, int messages, const Credentials& user,
                  int cgroup) {
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, cannot_mount(image), "fork");
  if (pid == 0) {
    join_cgroup(cgroup);
    place_descriptors(image.fd.get(), device, messages);
    const pid_t server = fork();
    if (server == 0) run_server(program, image, user);
    _exit(server < 0 ? kExitRefused : 0);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
}

std::string read_messages(int pipe) {
  std::array<char, 1024> text{};
  const ssize_t n = read(pipe, text.data(), text.size());
  std::string result(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!result.empty() && (result.back() == '\n' || result.back() == '.')) result.pop_back();
  return result;
}

}  // namespace

UniqueFd mount_with_squashfuse(const OpenImage& image, const Credentials& user, int cgroup) {
  const char* program = find_server(image);
  UniqueFd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device)
    throw system_error(errno, cannot_mount(image), "open /dev/fuse",
                       errno == EACCES ? "administrator: chmod 666 /dev/fuse, as udev does; or unpack the image into a "
                                         "directory: unsquashfs -d DIR IMAGE"
                                       : "load the kernel module 'fuse' on this node");
  UniqueFd mount = mount_fuse(device.get(), user);
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) throw system_error(errno, cannot_mount(image), "pipe2");
  const UniqueFd messages(pipe_ends[0]);
  UniqueFd messages_write(pipe_ends[1]);
  start_server(program, image, device.get(), messages_write.get(), user, cgroup);
  // From here on the server holds the only copy: if it ends, requests fail instead of waiting.
  device.reset();
  messages_write.reset();

  ask_child(
      cannot_mount(image), kServerPatience,
      [&] {
        struct statx status {};
        if (statx(mount.get(), "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &status) != 0) {
          const int error_number = errno;
          const std::string words = read_messages(messages.get());
          throw Error(
              ErrorCode::image, cannot_mount(image),
              fmt::format("squashfuse could not read it: {}", words.empty() ? strerrordesc_np(error_number) : words),
              "copy or build the image again");
        }
        return ChildAnswer{};
      },
      ChildMemory::shared);
  return mount;
}

}  // namespace berth
