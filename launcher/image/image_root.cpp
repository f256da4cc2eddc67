#include "launcher/image/image_root.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <deque>
#include <filesystem>

#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr int kLinkLimit = 40;  // as the kernel's
constexpr mode_t kDirectoryMode = 0755;
constexpr mode_t kFileMode = 0644;

std::deque<std::string> split_path(const std::string& path) {
  std::deque<std::string> components;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    if (end > at && path.compare(at, end - at, ".") != 0) components.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return components;
}

std::string join_path(const std::vector<std::string>& components) {
  std::string path;
  for (const std::string& component : components) path += '/' + component;
  return path.empty() ? "/" : path;
}

Error path_error(const std::string& target, std::string why, std::string fix = {}) {
  return {ErrorCode::image, fmt::format("cannot use '{}' in this image", target), std::move(why), std::move(fix)};
}

/// What the kernel says about a place in the image; squashfs says EIO where its tables are broken.
Error lookup_error(int error_number, const std::string& target, const std::string& place) {
  return path_error(target, fmt::format("'{}': {}", place, strerrordesc_np(error_number)),
                    error_number == EIO ? "the image is corrupt: copy or build it again" : "");
}

std::string read_link(int link, const std::string& target) {
  std::array<char, PATH_MAX> text{};
  const ssize_t n = readlinkat(link, "", text.data(), text.size());
  if (n <= 0 || static_cast<std::size_t>(n) == text.size())
    throw path_error(target, "a symlink on the way is unreadable");
  return {text.data(), static_cast<std::size_t>(n)};
}

/// Whether `name` is a directory with something in it.
bool holds_something(int parent, const std::string& name) {
  const UniqueFd directory(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory) return false;
  alignas(dirent64) std::array<char, 4096> entries;
  int count = 0;
  for (ssize_t size = 0; (size = getdents64(directory.get(), entries.data(), entries.size())) > 0;)
    for (ssize_t at = 0; at < size; at += reinterpret_cast<const dirent64*>(entries.data() + at)->d_reclen)
      if (++count > 2) return true;  // more than "." and ".."
  return false;
}

}  // namespace

ImagePath resolve_in_image(int root, const std::string& target) {
  std::deque<std::string> pending = split_path(target);
  // Mostly it is there, and no symlink leads to it: then one call does.
  if (const UniqueFd place(open_in_root_without_links(root, target, O_PATH));
      place && std::find(pending.begin(), pending.end(), "..") == pending.end())
    return {join_path({pending.begin(), pending.end()}), true, S_ISDIR(read_status(place.get(), target).st_mode)};
  std::vector<std::string> real;
  ImagePath result{"/", true, true};
  for (int links = 0; !pending.empty();) {
    const std::string component = std::move(pending.front());
    pending.pop_front();
    if (component == "..") {
      if (!real.empty()) real.pop_back();
      continue;
    }
    real.push_back(component);
    if (!result.exists) continue;
    const UniqueFd entry(open_in_root(root, join_path(real), O_PATH | O_NOFOLLOW));
    if (!entry) {
      if (errno != ENOENT) throw lookup_error(errno, target, join_path(real));
      result.exists = result.is_directory = false;
      continue;
    }
    const struct stat status = read_status(entry.get(), join_path(real));
    if (S_ISLNK(status.st_mode)) {
      if (++links > kLinkLimit) throw path_error(target, "its symlinks lead in a circle");
      const std::string link = read_link(entry.get(), target);
      if (link.front() == '/')
        real.clear();
      else
        real.pop_back();
      const std::deque<std::string> rest = split_path(link);
      pending.insert(pending.begin(), rest.begin(), rest.end());
      continue;
    }
    result.is_directory = S_ISDIR(status.st_mode);
    if (!result.is_directory && !pending.empty())
      throw path_error(target, fmt::format("'{}' is not a directory", join_path(real)));
  }
  result.path = join_path(real);
  // ".." behind a missing component may have led back to something that exists.
  if (!result.exists || target.find("..") != std::string::npos) {
    const UniqueFd entry(open_in_root(root, result.path, O_PATH | O_NOFOLLOW));
    result.exists = static_cast<bool>(entry);
    result.is_directory = entry && S_ISDIR(read_status(entry.get(), result.path).st_mode);
  }
  return result;
}

void check_image_layout(int root, const std::string& image_path) {
  for (const char* name : {"/dev", "/proc", "/sys", "/etc"}) {
    const UniqueFd entry(open_in_root(root, name, O_PATH | O_NOFOLLOW));
    if (!entry) continue;
    const mode_t mode = read_status(entry.get(), name).st_mode;
    if (S_ISDIR(mode)) continue;
    throw Error(ErrorCode::image, fmt::format("cannot use image '{}'", image_path),
                fmt::format("its {} is {}, not a directory", name, S_ISLNK(mode) ? "a symlink" : "a file"),
                fmt::format("build the image with an ordinary directory {}", name));
  }
}

std::string read_image_file(int root, const std::string& path, const Credentials& user) {
  constexpr std::size_t limit = 1 << 20;
  const FileAccessAs access(user);
  const UniqueFd place(open_in_root(root, path, O_PATH));
  if (!place) {
    if (errno == ENOENT || errno == ENOTDIR) return {};
    throw lookup_error(errno, path, path);
  }
  if (!S_ISREG(read_status(place.get(), path).st_mode)) throw path_error(path, "it is not a regular file");
  try {
    return read_file(AT_FDCWD, fmt::format("/proc/self/fd/{}", place.get()), limit);
  } catch (const Error& error) {
    throw path_error(path, error.why);
  }
}

void add_to_skeleton(int skeleton, int image_root, const ImagePath& path) {
  const auto fail = [&] { return system_error(errno, fmt::format("cannot prepare '{}'", path.path), "mkdir"); };
  const std::deque<std::string> components = split_path(path.path);
  std::string partial;
  for (std::size_t i = 0; i < components.size(); ++i) {
    partial += (i == 0 ? "" : "/") + components[i];
    if (i + 1 == components.size() && !path.is_directory) {
      const UniqueFd file(openat(skeleton, partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kFileMode));
      if (!file) throw fail();
      return;
    }
    if (mkdirat(skeleton, partial.c_str(), kDirectoryMode) != 0) {
      if (errno == EEXIST) continue;
      throw fail();
    }
    const UniqueFd original(open_in_root(image_root, partial, O_PATH | O_NOFOLLOW));
    if (!original) continue;
    copy_owner_and_mode(read_status(original.get(), partial), skeleton, partial);
  }
}

void copy_owner_and_mode(const struct stat& from, int directory, const std::string& path) {
  // A user namespace does not know every owner (EINVAL), and gives files to its own user only (EPERM).
  const bool changed = fchownat(directory, path.c_str(), from.st_uid, from.st_gid, AT_SYMLINK_NOFOLLOW) == 0 ||
                       errno == EINVAL || errno == EPERM;
  if (!changed || fchmodat(directory, path.c_str(), from.st_mode & 07777, 0) != 0)
    throw system_error(errno, fmt::format("cannot prepare '{}'", path), "chmod");
}

std::vector<std::string> find_untouched_directories(int skeleton, int image_root) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(fmt::format("/proc/self/fd/{}", image_root), error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (faccessat(skeleton, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0 && holds_something(image_root, name))
      names.push_back(name);
  }
  return names;
}

UniqueFd overlay_skeleton(int skeleton, int image_root) {
  // An image may carry overlay attributes of its own making: none of them is followed.
  return create_mount("overlay",
                      {{"source", "berth"},
                       {"lowerdir", fmt::format("/proc/self/fd/{}:/proc/self/fd/{}", skeleton, image_root)},
                       {"redirect_dir", "nofollow"},
                       {"metacopy", "off"},
                       {"index", "off"},
                       {"xino", "off"}},
                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

}  // namespace berth
