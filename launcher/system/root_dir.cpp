#include "launcher/system/root_dir.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <memory>

namespace berth {
namespace {

int open_in_root(int root, const char* path, int flags) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0; attempt < 16; ++attempt) {
    const long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    // EAGAIN: something below the root was renamed during the walk, so that ".." could not be proven to stay inside.
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return static_cast<int>(fd);
  }
  return -1;
}

}  // namespace

RootDir::RootDir(const std::string& path) : root_(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (!root_) {
    const int error = errno;
    throw system_error(error, fmt::format("cannot read the node below '{}'", path), "open",
                       "give a directory that holds a copy of /sys");
  }
  const UniqueFd probe(open_in_root(root_.get(), ".", O_PATH));
  if (!probe) {
    const int error = errno;
    throw system_error(error, fmt::format("cannot read the node below '{}'", path), "openat2",
                       error == ENOSYS ? "Berth needs Linux 5.6 or newer" : "");
  }
}

UniqueFd RootDir::open(const std::string& path, int flags) const {
  return UniqueFd(open_in_root(root_.get(), path.c_str(), flags));
}

std::optional<std::string> RootDir::read_text(const std::string& path, std::size_t limit) const {
  const UniqueFd fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat status {};
  if (!fd || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::string text(limit + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > limit) return std::nullopt;
  text.resize(size);
  text.erase(text.find_last_not_of(" \t\n") + 1);
  return text;
}

std::optional<std::uint64_t> RootDir::read_number(const std::string& path) const {
  const auto text = read_text(path);
  if (!text) return std::nullopt;
  std::uint64_t number = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

std::vector<std::string> RootDir::list(const std::string& path) const {
  UniqueFd fd = open(path, O_RDONLY | O_DIRECTORY);
  if (!fd) return {};
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fdopendir(fd.get()), &closedir);
  if (!directory) return {};
  fd.release();  // the stream closes it
  std::vector<std::string> names;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return strverscmp(a.c_str(), b.c_str()) < 0; });
  return names;
}

std::optional<std::string> RootDir::read_link(const std::string& path) const {
  const UniqueFd fd = open(path, O_PATH | O_NOFOLLOW);
  if (!fd) return std::nullopt;
  std::string target(PATH_MAX, '\0');
  const ssize_t size = readlinkat(fd.get(), "", target.data(), target.size());
  if (size <= 0) return std::nullopt;
  target.resize(static_cast<std::size_t>(size));
  return target;
}

std::optional<std::string> RootDir::read_link_name(const std::string& path) const {
  const auto target = read_link(path);
  return target ? std::optional(target->substr(target->rfind('/') + 1)) : std::nullopt;
}

bool RootDir::exists(const std::string& path) const { return static_cast<bool>(open(path, O_PATH)); }

}  // namespace berth
