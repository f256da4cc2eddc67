#include "hooks/container.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

#include <cerrno>

#include "launcher/broker/journal.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/namespaces.hpp"

namespace berth {

namespace {

constexpr std::size_t kLargestConfig = 4U << 20U;

std::string cannot_give(const ContainerState& state) {
  return fmt::format("cannot give container '{}' a device", short_container_id(state.id));
}

Error gone(const ContainerState& state) {
  return {ErrorCode::host, cannot_give(state), fmt::format("its first process, {}, does not exist", state.pid)};
}

bool has_ended(const UniqueFd& process) {
  pollfd ended{process.get(), POLLIN, 0};
  return poll(&ended, 1, 0) != 0;
}

bool is_netns_of_host(const UniqueFd& netns) {
  const std::uint64_t inode = netns_inode(netns);
  if (inode == netns_inode(open_current_netns())) return true;
  const UniqueFd of_init(open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC));
  return of_init && inode == netns_inode(of_init);
}

UniqueFd open_directory(const UniqueFd& root, const std::string& path, const std::string& what) {
  UniqueFd directory(open_in_root_without_links(root.get(), path, O_RDONLY | O_DIRECTORY));
  if (!directory) throw system_error(errno, what, fmt::format("open {}", path));
  return directory;
}

}  // namespace

ContainerProcess open_container(const ContainerState& state) {
  if (geteuid() != 0 || !is_in_host_user_namespace())
    throw Error(ErrorCode::usage, cannot_give(state),
                "its runtime is rootless, and only root can move a network device into another network namespace",
                "start the container as root (sudo podman run …)");
  if (state.pid <= 1) throw gone(state);
  ContainerProcess container;
  container.process = UniqueFd(pidfd_open(state.pid, 0));
  container.netns = UniqueFd(open(fmt::format("/proc/{}/ns/net", state.pid).c_str(), O_RDONLY | O_CLOEXEC));
  // After the namespace was opened: else its pid could belong to somebody else by then.
  if (!container.process || !container.netns || has_ended(container.process)) throw gone(state);
  if (is_netns_of_host(container.netns))
    throw Error(ErrorCode::usage, cannot_give(state), "it is in the host's network, where all devices are already",
                "give it a network namespace of its own: --network=none, or any network but host");
  if (netns_owner_inode(container.netns) != current_user_namespace_inode())
    throw Error(
        ErrorCode::usage, cannot_give(state),
        "its network namespace belongs to a user namespace: users there could change the device's addresses and "
        "send raw packets",
        "run it without --userns and --uidmap");
  container.cpus = read_affinity(state.pid);
  return container;
}

void make_device_nodes(const ContainerState& state, const std::vector<RdmaNode>& nodes) {
  const ContainerConfig config =
      parse_container_config(read_file(AT_FDCWD, state.bundle + "/config.json", kLargestConfig), kLargestConfig);
  if (const auto denied = find_denied(config.devices, nodes); !denied.empty()) {
    std::vector<std::string> names;
    std::vector<std::string> options;
    for (const RdmaNode& node : denied) {
      names.push_back(node.name);
      options.push_back(fmt::format("--device-cgroup-rule='c {}:{} rw'", node.major, node.minor));
    }
    throw Error(ErrorCode::usage,
                fmt::format("cannot give container '{}' an RDMA device", short_container_id(state.id)),
                fmt::format("its device rules do not let it open {}", fmt::join(names, ", ")),
                fmt::format("allow it: {} (numbers change with every move: '*' instead of the last one allows all)",
                            fmt::join(options, " ")));
  }
  const std::string what = fmt::format("cannot make /dev/infiniband in container '{}'", short_container_id(state.id));
  const std::string path = config.root.starts_with('/') ? config.root : state.bundle + "/" + config.root;
  const UniqueFd root(open(fmt::format("/proc/{}/root{}", state.pid, path).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) throw system_error(errno, what, fmt::format("open {}", path));
  const UniqueFd dev = open_directory(root, "dev", what);
  struct statfs status {};
  if (fstatfs(dev.get(), &status) != 0) throw system_error(errno, what, "fstatfs");
  // Else it would be the image's directory, or the host's /dev.
  if (status.f_type != TMPFS_MAGIC)
    throw Error(ErrorCode::host, what, "its /dev is not a tmpfs of its own",
                "give the container a private /dev, as runtimes do by default");
  if (mkdirat(dev.get(), "infiniband", 0755) != 0 && errno != EEXIST) throw system_error(errno, what, "mkdir");
  const UniqueFd directory = open_directory(root, "dev/infiniband", what);
  for (const RdmaNode& node : nodes) {
    if (mknodat(directory.get(), node.name.c_str(), S_IFCHR | node.mode, makedev(node.major, node.minor)) != 0)
      throw system_error(errno, what, fmt::format("mknod {}", node.name));
    if (fchownat(directory.get(), node.name.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        fchmodat(directory.get(), node.name.c_str(), node.mode, 0) != 0)
      throw system_error(errno, what, fmt::format("chmod {}", node.name));
  }
}

}  // namespace berth
