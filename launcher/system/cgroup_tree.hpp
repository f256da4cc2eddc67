// Control groups, below a mount that is the process's own: where and whether the host mounts them does not matter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {

/// One hierarchy. Paths are those of /proc/PID/cgroup: absolute, "/" is the root. All functions throw Error{host}.
class CgroupTree {
 public:
  /// Version 2, which every kernel has, however little the host uses it.
  static CgroupTree unified();
  /// The hierarchy that has `controller`: that of version 1 which it is bound to, else (or without one) version 2.
  static CgroupTree with_controller(const std::string& controller);

  [[nodiscard]] bool is_unified() const { return controller_.empty(); }
  /// The cgroup of a process.
  [[nodiscard]] std::string path_of(int pid) const;
  [[nodiscard]] UniqueFd open(const std::string& path) const;
  [[nodiscard]] bool exists(const std::string& path) const;
  /// The kernel's number of a cgroup, as BPF programs get it.
  [[nodiscard]] std::uint64_t id(const std::string& path) const;
  [[nodiscard]] bool has_children(const std::string& path) const;
  /// Processes in it, those of cgroups below it not included.
  [[nodiscard]] std::vector<int> processes(const std::string& path) const;

  /// Cgroups whose name begins with `prefix`, wherever they lie.
  [[nodiscard]] std::vector<std::string> find(const std::string& prefix) const;

  void make(const std::string& path) const;  ///< nothing if it exists
  void kill(const std::string& path) const;  ///< everything in it, where the kernel can (version 2, Linux 5.14)
  /// Nothing if it does not exist. Waits a moment for dying processes to leave it.
  void remove(const std::string& path) const;
  void move_process(int pid, const std::string& path) const;
  /// Writes a control file of the cgroup, "rdma.max".
  void write(const std::string& path, const std::string& file, const std::string& text) const;
  [[nodiscard]] std::string read(const std::string& path, const std::string& file) const;

 private:
  CgroupTree(UniqueFd root, std::string controller) : root_(std::move(root)), controller_(std::move(controller)) {}

  UniqueFd root_;
  std::string controller_;  // of version 1; empty: version 2
};

/// The path in one line of /proc/PID/cgroup, "4:memory:/a/b" or (version 2: empty `controller`) "0::/a/b"; nullopt if
/// no line names the controller.
std::optional<std::string> parse_cgroup(std::string_view text, std::string_view controller);

/// The cgroup and those above it, the root first: "/", "/a", "/a/b".
std::vector<std::string> cgroup_ancestry(const std::string& path);

/// "/a/b" + "c"
std::string cgroup_child(const std::string& path, const std::string& name);

}  // namespace berth
