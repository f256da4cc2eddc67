#include "launcher/system/mounts.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>

namespace berth {

namespace {

// What the file system wrote into its configuration context: "e squashfs: ..." lines, one per read.
std::string read_context_log(int context) {
  std::string log;
  std::array<char, 512> line{};
  for (;;) {
    const ssize_t n = ::read(context, line.data(), line.size());
    if (n <= 2) return log;
    std::string_view text(line.data() + 2, static_cast<std::size_t>(n) - 2);
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    log += fmt::format("{}{}", log.empty() ? "" : "; ", text);
  }
}

[[noreturn]] void throw_mount_error(int error_number, int context, const std::string& type,
                                    std::string_view operation) {
  Error error = system_error(error_number, fmt::format("cannot mount a file system of type {}", type), operation);
  if (const std::string log = context >= 0 ? read_context_log(context) : std::string(); !log.empty())
    error.why += fmt::format("; the kernel says: {}", log);
  if (error_number == ENODEV) error.fix = fmt::format("load the kernel module '{}' on this node", type);
  throw error;
}

int open_resolving(int dir, const std::string& path, int flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = resolve;
  for (int attempt = 0;; ++attempt) {
    const long fd = syscall(SYS_openat2, dir, path.c_str(), &how, sizeof how);
    // Who asks by this call wants to be led astray by nothing: there is no second-best way.
    if (fd < 0 && errno == ENOSYS)
      throw Error(ErrorCode::host, fmt::format("cannot open '{}' safely", path),
                  "this kernel has no openat2, or a seccomp filter forbids it", "Berth needs Linux 5.12 or newer");
    // EAGAIN: a rename raced with a ".." step; the kernel asks to try again.
    if (fd >= 0 || errno != EAGAIN || attempt == 100) return static_cast<int>(fd);
  }
}

std::string unescape_octal(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      unsigned value = 0;
      const auto [end, error] = std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8);
      if (error == std::errc() && end == text.data() + i + 4 && value < 256) {
        result += static_cast<char>(value);
        i += 3;
        continue;
      }
    }
    result += text[i];
  }
  return result;
}

std::vector<std::string_view> split_words(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

bool parse_number(std::string_view text, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

UniqueFd create_mount(const std::string& type, const std::vector<MountOption>& options, std::uint64_t attributes) {
  const UniqueFd context(fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!context) throw_mount_error(errno, -1, type, "fsopen");
  for (const auto& [key, value] : options) {
    const int result = value.empty() ? fsconfig(context.get(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0)
                                     : fsconfig(context.get(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0);
    if (result != 0) throw_mount_error(errno, context.get(), type, fmt::format("fsconfig({}={})", key, value));
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    throw_mount_error(errno, context.get(), type, "fsconfig(create)");
  UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount) throw_mount_error(errno, context.get(), type, "fsmount");
  return mount;
}

UniqueFd create_sysfs() {
  return create_mount("sysfs", {{"source", "sysfs"}},
                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

UniqueFd clone_mount(int fd, bool recursive) {
  const unsigned flags =
      static_cast<unsigned>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) | (recursive ? AT_RECURSIVE : 0U);
  UniqueFd mount(open_tree(fd, "", flags));
  if (!mount) throw system_error(errno, "cannot copy a mount", "open_tree");
  return mount;
}

void set_mount_attributes(int mount, std::uint64_t attributes, std::uint64_t propagation, bool recursive) {
  mount_attr change{};
  change.attr_set = attributes;
  change.propagation = propagation;
  const int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  if (mount_setattr(mount, "", static_cast<unsigned>(flags), &change, sizeof change) != 0) {
    const int error_number = errno;
    throw system_error(error_number, "cannot restrict a mount", "mount_setattr",
                       error_number == ENOSYS ? "Berth needs Linux 5.12 or newer" : "");
  }
}

void attach_mount(int mount, int target) {
  if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
    throw system_error(errno, "cannot attach a mount", "move_mount");
}

void make_namespace_slave() {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    throw system_error(errno, "cannot separate the mounts from the host's", "mount(MS_REC | MS_SLAVE)");
}

void pivot_to(int root, int stacked) {
  if (fchdir(root) != 0) throw system_error(errno, "cannot enter the new root", "fchdir");
  if (syscall(SYS_pivot_root, ".", ".") != 0) {
    const int error_number = errno;
    throw system_error(
        error_number, "cannot change the root", "pivot_root",
        error_number == EINVAL ? "a node that runs from its initramfs must switch_root to a tmpfs first" : "");
  }
  // The former root now lies on top of the new one, and what was stacked on it on top of that: "." means the topmost.
  for (int layer = 0; layer <= stacked; ++layer)
    if (umount2(".", MNT_DETACH) != 0) throw system_error(errno, "cannot detach the former root", "umount2");
  if (chdir("/") != 0) throw system_error(errno, "cannot enter the new root", "chdir");
}

int open_in_root(int root, const std::string& path, int flags) {
  return open_resolving(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int open_in_root_without_links(int root, const std::string& path, int flags) {
  return open_resolving(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
}

int open_host_path(const std::string& path, int flags) {
  return open_resolving(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS);
}

std::string read_path(int fd) {
  std::array<char, PATH_MAX> buffer{};
  const ssize_t n = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), buffer.data(), buffer.size());
  if (n < 0) throw system_error(errno, "cannot find the real path of an open file", "readlink");
  std::string path(buffer.data(), static_cast<std::size_t>(n));
  if (path.size() == buffer.size() || path.front() != '/')
    throw Error(ErrorCode::host, "cannot find the real path of an open file", fmt::format("it has none: '{}'", path));
  return path;
}

struct stat read_status(int fd, std::string_view name) {
  struct stat status {};
  if (fstat(fd, &status) != 0) throw system_error(errno, fmt::format("cannot examine '{}'", name), "fstat");
  return status;
}

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const auto words = split_words(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto separator = std::find(words.begin(), words.end(), "-");
    MountEntry entry;
    if (words.size() < 10 || words.end() - separator < 4 || !parse_number(words[0], entry.id) ||
        !parse_number(words[1], entry.parent))
      continue;
    entry.point = unescape_octal(words[4]);
    entry.type = separator[1];
    entry.super_options = separator[3];
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace berth
