#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "launcher/image/child.hpp"
#include "launcher/image/image.hpp"
#include "launcher/image/sif.hpp"
#include "launcher/image/squashfs.hpp"
#include "launcher/system/loop.hpp"
#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr std::chrono::seconds kOpenPatience{60};  // a slow automount is no reason to give up

// What a child found in the file; the parent believes none of it unseen.
struct Finding {
  ImageFormat format = ImageFormat::directory;
  ImageExtent extent;
};

std::string cannot_use(const std::string& path) { return fmt::format("cannot use image '{}'", path); }

Error image_error(const std::string& path, std::string why, std::string fix = {}) {
  return {ErrorCode::image, cannot_use(path), std::move(why), std::move(fix)};
}

Error open_error(int error_number, const std::string& path) {
  Error error = system_error(error_number, cannot_use(path), "open");
  error.code = ErrorCode::image;
  if (path.find("://") != std::string::npos)
    error.fix = "images are files or directories: convert it first, for example to a SIF with 'apptainer build'";
  else if (error_number == ENOENT)
    error.fix = "check the path; it is looked up on the compute node, relative to the job's working directory";
  else if (error_number == EACCES)
    error.fix = "make the image readable, and its parent directories searchable, for the user who runs the job";
  return error;
}

std::string read_at(int fd, const std::string& path, std::uint64_t offset, std::size_t length) {
  std::string bytes(length, '\0');
  std::size_t got = 0;
  while (got < length) {
    const ssize_t n = pread(fd, bytes.data() + got, length - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw image_error(path, fmt::format("read: {}", strerrordesc_np(errno)));
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

Finding recognise(int fd, const std::string& path, std::uint64_t size) {
  if (size == 0) throw image_error(path, "the file is empty", "copy or build the image again");
  const auto read = [&](std::uint64_t offset, std::size_t length) { return read_at(fd, path, offset, length); };
  const std::string start = read(0, kSquashfsSuperblockSize);
  if (is_squashfs(start)) {
    parse_squashfs(path, start, size);
    return {ImageFormat::squashfs, {0, size}};
  }
  if (is_sif(start)) {
    const ImageExtent extent = parse_sif(path, size, read, native_sif_architecture());
    parse_squashfs(path, read(extent.offset, kSquashfsSuperblockSize), extent.size);
    return {ImageFormat::sif, extent};
  }
  throw image_error(path, "it is neither a SIF nor a squashfs image",
                    "give a .sif, a .sqsh or .squashfs file, or a directory with a root file system");
}

// In the child, with the user's rights: the directory, ready for use, or the place of a file. Looks at the type before
// opening in earnest: opening a device can do things.
UniqueFd find_image(const std::string& path) {
  UniqueFd place(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!place) throw open_error(errno, path);
  const mode_t mode = read_status(place.get(), path).st_mode;
  if (S_ISREG(mode)) return place;
  if (!S_ISDIR(mode))
    throw image_error(path, "it is neither a file nor a directory", "give a .sif or .sqsh file or a directory");
  UniqueFd directory(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory || faccessat(directory.get(), ".", R_OK | X_OK, AT_EACCESS) != 0) throw open_error(errno, path);
  return directory;
}

// The same for what is in a file.
ChildAnswer read_image(int place, const std::string& path) {
  const std::string reopen = fmt::format("/proc/self/fd/{}", place);
  ChildAnswer answer{{}, UniqueFd(open(reopen.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC))};
  if (!answer.fd) throw open_error(errno, path);
  const struct stat status = read_status(place, path);
  const Finding finding = recognise(answer.fd.get(), path, static_cast<std::uint64_t>(status.st_size));
  answer.text.assign(reinterpret_cast<const char*>(&finding), sizeof finding);
  return answer;
}

void forbid_core_dump() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

bool only_root_writes(const struct stat& status) {
  return status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// Root-owned and writable by root alone, from "/" down to the image itself. Links cannot be in the way: `path` has
// none, and where root alone can write, nobody else can put one there meanwhile.
bool is_trusted(const std::string& path, int image) {
  UniqueFd directory(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (std::size_t at = 1;;) {
    struct stat status {};
    if (!directory || fstat(directory.get(), &status) != 0 || !only_root_writes(status)) return false;
    const std::size_t end = path.find('/', at);
    if (end == std::string::npos) {
      struct stat entry {
      }, opened{};
      return fstatat(directory.get(), path.c_str() + at, &entry, AT_SYMLINK_NOFOLLOW) == 0 &&
             fstat(image, &opened) == 0 && entry.st_dev == opened.st_dev && entry.st_ino == opened.st_ino &&
             only_root_writes(opened);
    }
    directory.reset(
        openat(directory.get(), path.substr(at, end - at).c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    at = end + 1;
  }
}

// An administrator may well write /scratch where that is a link to /lustre/scratch.
std::vector<std::string> real_paths(const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  for (const std::string& path : paths) {
    const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
    result.emplace_back(real ? real.get() : path);
  }
  return result;
}

void check_allowed(const OpenImage& image, const std::string& path, const ImagePolicy& policy) {
  if (is_below(image.path, real_paths(policy.paths))) return;
  throw Error(ErrorCode::policy, cannot_use(path),
              policy.paths.empty()
                  ? std::string("the policy allows no directory for images")
                  : fmt::format("'{}' is outside the allowed paths: '{}'", image.path, fmt::join(policy.paths, "', '")),
              "move it there, or ask the administrator to list its directory in [images] paths of the policy");
}

}  // namespace

std::string_view to_string(ImageFormat format) {
  switch (format) {
    case ImageFormat::directory:
      return "directory";
    case ImageFormat::squashfs:
      return "squashfs";
    case ImageFormat::sif:
      return "sif";
  }
  return "unknown";
}

OpenImage open_image(const std::string& path, const std::string& working_directory, const Credentials& user,
                     const ImagePolicy& policy) {
  if (path.empty() || path.size() >= PATH_MAX || path.find('\0') != std::string::npos)
    throw Error(ErrorCode::usage, "cannot use this image", "its path is empty, too long or holds a zero byte");
  if (path.front() != '/' && !working_directory.starts_with('/'))
    throw Error(ErrorCode::usage, cannot_use(path), "the path is relative, and the job has no working directory",
                "give an absolute path");
  const std::string absolute = path.front() == '/' ? path : working_directory + '/' + path;

  ChildAnswer answer = ask_child(
      cannot_use(path), kOpenPatience,
      [&] {
        const FileAccessAs access(user);
        const WithoutCapabilities unprivileged;
        return ChildAnswer{{}, find_image(absolute)};
      },
      ChildMemory::shared);
  Finding finding;
  if (answer.fd && S_ISREG(read_status(answer.fd.get(), path).st_mode)) {
    // Headers are the user's: whoever parses them has no other rights, and a memory of its own.
    answer = ask_child(cannot_use(path), kOpenPatience, [&] {
      forbid_core_dump();
      drop_to_user(user);
      return read_image(answer.fd.get(), absolute);
    });
    if (answer.text.size() == sizeof finding)
      std::memcpy(&finding, answer.text.data(), sizeof finding);
    else
      answer.fd.reset();
  }
  if (!answer.fd) throw Error(ErrorCode::internal, cannot_use(path), "the child process sent a malformed record");
  const struct stat status = read_status(answer.fd.get(), path);
  const auto file_size = static_cast<std::uint64_t>(status.st_size);
  const bool consistent = finding.format == ImageFormat::directory
                              ? S_ISDIR(status.st_mode)
                              : (finding.format == ImageFormat::squashfs || finding.format == ImageFormat::sif) &&
                                    S_ISREG(status.st_mode) &&
                                    (fcntl(answer.fd.get(), F_GETFL) & (O_PATH | O_ACCMODE)) == O_RDONLY &&
                                    finding.extent.size > 0 && finding.extent.offset <= file_size &&
                                    finding.extent.size <= file_size - finding.extent.offset;
  if (!consistent || status.st_nlink == 0)
    throw image_error(path, "it changed while it was opened", "leave the image alone while jobs start from it");

  OpenImage image;
  image.path = read_path(answer.fd.get());
  image.format = finding.format;
  image.offset = finding.extent.offset;
  image.size = finding.extent.size;
  check_allowed(image, path, policy);
  image.kernel_mountable = image.format == ImageFormat::directory ||
                           (policy.kernel_mount == KernelMount::trusted && is_trusted(image.path, answer.fd.get()) &&
                            round_up_to_sector(image.size) <= file_size - image.offset);
  image.fd = std::move(answer.fd);
  return image;
}

}  // namespace berth
