#include "launcher/system/cgroup_tree.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>

#include "launcher/system/mounts.hpp"
#include "launcher/system/polling.hpp"

namespace berth {

namespace {

constexpr std::uint64_t kAttributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// For killed processes to leave their cgroup.
constexpr std::chrono::milliseconds kLeavePatience{500};

/// Relative to the root's descriptor.
std::string relative(const std::string& path) { return path == "/" ? "." : path.substr(1); }

std::string read_of(int pid) { return read_file(AT_FDCWD, fmt::format("/proc/{}/cgroup", pid)); }

}  // namespace

CgroupTree CgroupTree::unified() { return {create_mount("cgroup2", {}, kAttributes), {}}; }

CgroupTree CgroupTree::with_controller(const std::string& controller) {
  if (controller.empty() || !parse_cgroup(read_of(getpid()), controller)) return unified();
  return {create_mount("cgroup", {{controller, ""}}, kAttributes), controller};
}

std::string CgroupTree::path_of(int pid) const {
  if (auto path = parse_cgroup(read_of(pid), controller_)) return *path;
  throw Error(ErrorCode::host, fmt::format("cannot tell the cgroup of process {}", pid),
              fmt::format("/proc/{}/cgroup does not name it", pid));
}

UniqueFd CgroupTree::open(const std::string& path) const {
  UniqueFd directory(openat(root_.get(), relative(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw system_error(errno, fmt::format("cannot open cgroup '{}'", path), "open");
  return directory;
}

bool CgroupTree::exists(const std::string& path) const {
  return faccessat(root_.get(), relative(path).c_str(), F_OK, 0) == 0;
}

std::uint64_t CgroupTree::id(const std::string& path) const {
  // A cgroup's id is the inode number of its directory: kernfs has 64 bits for both.
  return read_status(open(path).get(), path).st_ino;
}

bool CgroupTree::has_children(const std::string& path) const {
  return read_status(open(path).get(), path).st_nlink > 2;  // "." and the entry above; one more for each directory
}

std::vector<int> CgroupTree::processes(const std::string& path) const {
  const std::string text = read(path, "cgroup.procs");
  std::vector<int> pids;
  const char* at = text.data();
  const char* const end = at + text.size();
  int pid = 0;
  while (at < end) {
    const auto [next, error] = std::from_chars(at, end, pid);
    if (error != std::errc{}) break;
    pids.push_back(pid);
    at = next + 1;
  }
  return pids;
}

void CgroupTree::make(const std::string& path) const {
  if (mkdirat(root_.get(), relative(path).c_str(), 0755) != 0 && errno != EEXIST)
    throw system_error(errno, fmt::format("cannot make cgroup '{}'", path), "mkdir");
}

std::vector<std::string> CgroupTree::find(const std::string& prefix) const {
  std::vector<std::string> found;
  const std::string root = fmt::format("/proc/self/fd/{}/", root_.get());
  std::error_code error;  // others make and remove cgroups meanwhile
  for (std::filesystem::recursive_directory_iterator entry(root, error), end; !error && entry != end;
       entry.increment(error))
    if (entry->is_directory(error) && entry->path().filename().string().starts_with(prefix))
      found.push_back("/" + entry->path().string().substr(root.size()));
  return found;
}

void CgroupTree::kill(const std::string& path) const {
  if (faccessat(root_.get(), (relative(path) + "/cgroup.kill").c_str(), W_OK, 0) == 0) write(path, "cgroup.kill", "1");
}

void CgroupTree::remove(const std::string& path) const {
  int error_number = 0;
  poll_until(kLeavePatience, [&] {
    error_number = unlinkat(root_.get(), relative(path).c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
    return error_number != EBUSY;
  });
  if (error_number != 0 && error_number != ENOENT)
    throw system_error(error_number, fmt::format("cannot remove cgroup '{}'", path), "rmdir");
}

void CgroupTree::move_process(int pid, const std::string& path) const {
  write(path, "cgroup.procs", std::to_string(pid));
}

void CgroupTree::write(const std::string& path, const std::string& file, const std::string& text) const {
  const std::string what = fmt::format("cannot write '{}' to {} of cgroup '{}'", text, file, path);
  const UniqueFd control(openat(root_.get(), fmt::format("{}/{}", relative(path), file).c_str(), O_WRONLY | O_CLOEXEC));
  if (!control) throw system_error(errno, what, "open");
  if (::write(control.get(), text.data(), text.size()) < 0) throw system_error(errno, what, "write");
}

std::string CgroupTree::read(const std::string& path, const std::string& file) const {
  return read_file(root_.get(), fmt::format("{}/{}", relative(path), file), 1U << 24U);
}

std::optional<std::string> parse_cgroup(std::string_view text, std::string_view controller) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string_view names = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (names.empty() && controller.empty()) return path;
    while (!names.empty()) {
      const std::string_view name = names.substr(0, names.find(','));
      names.remove_prefix(std::min(name.size() + 1, names.size()));
      if (name == controller && !controller.empty()) return path;
    }
  }
  return std::nullopt;
}

std::vector<std::string> cgroup_ancestry(const std::string& path) {
  std::vector<std::string> ancestry{"/"};
  for (std::size_t slash = path.find('/', 1); path.size() > 1; slash = path.find('/', slash + 1)) {
    ancestry.push_back(path.substr(0, slash));
    if (slash == std::string::npos) break;
  }
  return ancestry;
}

std::string cgroup_child(const std::string& path, const std::string& name) {
  return path == "/" ? "/" + name : path + "/" + name;
}

}  // namespace berth
