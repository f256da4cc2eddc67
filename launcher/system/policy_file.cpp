#include "launcher/system/policy_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestPolicy = 1U << 20U;  // bytes

[[noreturn]] void refuse(const std::string& path, std::string why, std::string fix) {
  throw Error(ErrorCode::policy, fmt::format("cannot use policy file '{}'", path), std::move(why), std::move(fix));
}

/// Opens one component below `dir`, following nothing.
UniqueFd open_component(int dir, const std::string& name, int flags, const std::string& path) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(syscall(SYS_openat2, dir, name.c_str(), &how, sizeof how)));
  if (fd) return fd;
  const int error = errno;
  switch (error) {
    case ENOENT:
      throw Error(ErrorCode::policy, fmt::format("no policy file '{}'", path),
                  "without one Berth allows nothing that needs privileges",
                  "as root, write one: start from examples/policy.toml, check it with `berth policy check`");
    case ELOOP:
      refuse(path, fmt::format("'{}' in its path is a symbolic link", name), "give the path without symbolic links");
    case ENOSYS:
      refuse(path, "this kernel has no openat2", "Berth needs Linux 5.6 or newer");
    default:
      break;
  }
  Error failure =
      system_error(error, fmt::format("cannot use policy file '{}'", path), fmt::format("opening '{}'", name));
  failure.code = ErrorCode::policy;
  throw failure;
}

void check_owner(int fd, const std::string& name, const std::string& path) {
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    const int error = errno;
    throw system_error(error, fmt::format("cannot use policy file '{}'", path), "fstat");
  }
  if (status.st_uid != 0) {
    refuse(path, fmt::format("'{}' belongs to user {}, not to root", name, status.st_uid),
           fmt::format("chown root {}", name));
  }
  // The sticky bit of a directory like /tmp does not help: anybody may still put the first file there.
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    refuse(path, fmt::format("'{}' can be written by others than root (mode {:04o})", name, status.st_mode & 07777U),
           fmt::format("chmod go-w {}", name));
  }
}

std::string absolute_path(const std::string& path) {
  if (path.starts_with('/')) return path;
  char* current = get_current_dir_name();
  if (current == nullptr) {
    const int error = errno;
    throw system_error(error, fmt::format("cannot use policy file '{}'", path), "getcwd", "give an absolute path");
  }
  std::string absolute = fmt::format("{}/{}", current, path);
  free(current);
  return absolute;
}

/// Walks to the file one component at a time, so that each directory is checked by the descriptor that is used.
UniqueFd open_checked(const std::string& path, bool require_root_owner) {
  const std::string absolute = absolute_path(path);
  UniqueFd directory = open_component(AT_FDCWD, "/", O_PATH | O_DIRECTORY, path);
  std::size_t start = 1;
  while (true) {
    if (require_root_owner) check_owner(directory.get(), absolute.substr(0, start), path);
    const std::size_t slash = absolute.find('/', start);
    const std::string name = absolute.substr(start, slash - start);
    if (slash == std::string::npos) {
      return open_component(directory.get(), name.empty() ? "." : name, O_RDONLY | O_NONBLOCK | O_NOCTTY, path);
    }
    if (!name.empty()) directory = open_component(directory.get(), name, O_PATH | O_DIRECTORY, path);
    start = slash + 1;
  }
}

}  // namespace

std::string read_policy_text(const std::string& path, bool require_root_owner) {
  const UniqueFd fd = open_checked(path, require_root_owner);
  struct stat status {};
  if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    refuse(path, "it is not a regular file", "give the path of a TOML file");
  }
  if (require_root_owner) check_owner(fd.get(), path, path);
  std::string text;  // grown as needed: room for the largest policy takes the kernel longer than all of a usual one
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      throw system_error(error, fmt::format("cannot use policy file '{}'", path), "read");
    }
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > kLargestPolicy)
      refuse(path, "it is larger than 1 MiB", "a policy is a page of text: is this the file?");
  }
}

Policy read_policy_file(const std::string& path, bool require_root_owner) {
  return parse_policy(read_policy_text(path, require_root_owner), path);
}

}  // namespace berth
