#include "launcher/image/device_tree.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr std::string_view kDevices = "/dev/";
constexpr mode_t kDirectoryMode = 0755;

std::vector<std::string> expand(const std::string& pattern) {
  glob_t matches{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0)
    paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  globfree(&matches);
  return paths;
}

bool add_node(std::vector<DeviceNode>& nodes, const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISCHR(status.st_mode)) return false;
  const std::string relative = path.substr(kDevices.size());
  if (std::none_of(nodes.begin(), nodes.end(), [&](const DeviceNode& node) { return node.path == relative; }))
    nodes.push_back({relative, status.st_mode & 07777, status.st_uid, status.st_gid, status.st_rdev});
  return true;
}

}  // namespace

std::vector<DeviceNode> read_device_nodes(const std::vector<std::string>& patterns) {
  std::vector<DeviceNode> nodes;
  for (const char* basic : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"})
    if (!add_node(nodes, basic))
      throw Error(ErrorCode::host, "cannot make a /dev for the container", fmt::format("the host has no {}", basic));
  // As a node of its own it works with whatever ptmxmode the host's /dev/pts has; absent, a symlink takes its place.
  add_node(nodes, "/dev/ptmx");
  for (const std::string& pattern : patterns) {
    if (!pattern.starts_with(kDevices) || pattern.find("..") != std::string::npos)
      throw Error(ErrorCode::policy, fmt::format("cannot add devices '{}'", pattern),
                  "the pattern does not begin with /dev/, or holds '..'", "correct [mounts] devices of the policy");
    for (const std::string& path : expand(pattern))
      if (!add_node(nodes, path))
        for (const std::string& entry : expand(path + "/*")) add_node(nodes, entry);
  }
  return nodes;
}

UniqueFd create_device_tree(const std::vector<DeviceNode>& nodes, bool with_mqueue) {
  UniqueFd tree = create_mount("tmpfs", {{"source", "berth-dev"}, {"mode", "755"}, {"size", "64k"}},
                               MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  const auto check = [](int result, const std::string& name) {
    if (result != 0) throw system_error(errno, fmt::format("cannot make /dev/{}", name), "mknod");
  };
  check(mkdirat(tree.get(), "infiniband", kDirectoryMode), "infiniband");
  for (const DeviceNode& node : nodes) {
    for (std::size_t slash = node.path.find('/'); slash != std::string::npos; slash = node.path.find('/', slash + 1)) {
      const std::string directory = node.path.substr(0, slash);
      if (mkdirat(tree.get(), directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST) check(-1, directory);
    }
    check(mknodat(tree.get(), node.path.c_str(), S_IFCHR | node.mode, node.number), node.path);
    if (node.uid != 0 || node.gid != 0)
      check(fchownat(tree.get(), node.path.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW), node.path);
  }
  using Link = std::pair<const char*, const char*>;
  for (const auto& [name, target] : {Link{"fd", "/proc/self/fd"}, Link{"stdin", "/proc/self/fd/0"},
                                     Link{"stdout", "/proc/self/fd/1"}, Link{"stderr", "/proc/self/fd/2"}})
    check(symlinkat(target, tree.get(), name), name);
  if (faccessat(tree.get(), "ptmx", F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    check(symlinkat("pts/ptmx", tree.get(), "ptmx"), "ptmx");
  for (const char* directory : {"pts", "shm"}) check(mkdirat(tree.get(), directory, kDirectoryMode), directory);
  if (with_mqueue) check(mkdirat(tree.get(), "mqueue", kDirectoryMode), "mqueue");
  return tree;
}

}  // namespace berth
