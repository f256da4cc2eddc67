#include "launcher/image/rdma_view.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

using Names = std::vector<std::string>;

UniqueFd create_directory_mount(std::uint64_t attributes) {
  return create_mount("tmpfs", {{"source", "berth-rdma"}, {"mode", "755"}, {"size", "64k"}},
                      attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
}

void attach_read_only(const UniqueFd& mount, const std::string& path) {
  set_mount_attributes(mount.get(), MOUNT_ATTR_RDONLY, 0, false);
  const UniqueFd place(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!place)
    throw system_error(errno, fmt::format("cannot mount anything at '{}'", path), "open",
                       "check that the RDMA modules are loaded");
  attach_mount(mount.get(), place.get());
}

void attach_nodes(const std::vector<RdmaNode>& nodes) {
  const UniqueFd tree = create_directory_mount(0);
  for (const RdmaNode& node : nodes) {
    const std::string what = fmt::format("cannot make /dev/infiniband/{}", node.name);
    if (mknodat(tree.get(), node.name.c_str(), S_IFCHR | node.mode, makedev(node.major, node.minor)) != 0)
      throw system_error(errno, what, "mknod",
                         errno == EPERM ? "the job's device cgroup denies it: allow it there (GRES with its file in "
                                          "gres.conf), or set ConstrainDevices=no in cgroup.conf"
                                        : "");
    if (fchownat(tree.get(), node.name.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        fchmodat(tree.get(), node.name.c_str(), node.mode, 0) != 0)
      throw system_error(errno, what, "chmod");
  }
  attach_read_only(tree, "/dev/infiniband");
}

/// Devices are symlinks into /sys/devices, relative to a directory at this depth; what else there is belongs to the
/// class (abi_version) and is needed by libraries.
void mask_class(const std::string& path, const Names& own) {
  std::error_code error;
  const auto is_own = [&](const std::string& name) { return std::ranges::find(own, name) != own.end(); };
  std::vector<std::filesystem::directory_entry> entries;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) entries.push_back(entry);
  const bool all_own = std::ranges::all_of(entries, [&](const std::filesystem::directory_entry& entry) {
    return !entry.is_symlink(error) || is_own(entry.path().filename());
  });
  if (all_own) return;
  const UniqueFd mask = create_directory_mount(MOUNT_ATTR_NODEV);
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename();
    const std::string what = fmt::format("cannot show '{}' in '{}'", name, path);
    if (entry.is_symlink(error)) {
      if (!is_own(name)) continue;
      const std::string target = std::filesystem::read_symlink(entry.path(), error);
      if (error || symlinkat(target.c_str(), mask.get(), name.c_str()) != 0)
        throw system_error(error ? error.value() : errno, what, "symlink");
    } else if (access(entry.path().c_str(), R_OK) == 0) {
      const std::string text = read_file(AT_FDCWD, entry.path());
      const UniqueFd file(openat(mask.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
      if (!file || write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
        throw system_error(errno, what, "write");
    }
  }
  attach_read_only(mask, path);
}

Names names_of(const std::vector<RdmaNode>& nodes, std::initializer_list<std::string_view> kinds) {
  Names names;
  for (const RdmaNode& node : nodes)
    if (std::ranges::any_of(kinds, [&](std::string_view kind) { return node.name.starts_with(kind); }))
      names.push_back(node.name);
  return names;
}

}  // namespace

void apply_rdma_view(const std::vector<RdmaGrant>& grants) {
  Names devices;
  std::vector<RdmaNode> nodes;
  for (const RdmaGrant& grant : grants) {
    devices.push_back(grant.device);
    for (const RdmaNode& node : grant.nodes)  // rdma_cm is one for all
      if (std::ranges::find(nodes, node) == nodes.end()) nodes.push_back(node);
  }
  attach_nodes(nodes);
  mask_class("/sys/class/infiniband", devices);
  mask_class("/sys/class/infiniband_verbs", names_of(nodes, {"uverbs"}));
  mask_class("/sys/class/infiniband_mad", names_of(nodes, {"umad", "issm"}));
}

}  // namespace berth
