#include "launcher/doctor/facts.hpp"

#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <sstream>

#include "launcher/broker/onload.hpp"
#include "launcher/doctor/slurm_facts.hpp"
#include "launcher/image/parked_images.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/root_dir.hpp"
#include "launcher/system/setuid_program.hpp"

namespace berth {
namespace {

/// Calls with arguments that no kernel accepts: one that has the call finds fault with them.
std::vector<std::string> read_missing_calls() {
  struct Call {
    const char* name;
    long number;
  };
  constexpr std::array kCalls = {
      Call{"openat2", SYS_openat2},
      Call{"fsopen", SYS_fsopen},
      Call{"open_tree", SYS_open_tree},
      Call{"move_mount", SYS_move_mount},
      Call{"mount_setattr", SYS_mount_setattr},
      Call{"pidfd_open", SYS_pidfd_open},
      Call{"close_range", SYS_close_range},
      Call{"execveat", SYS_execveat},
  };
  std::vector<std::string> missing;
  for (const Call& call : kCalls)
    if (syscall(call.number, -1L, -1L, -1L, -1L, 0L) < 0 && errno == ENOSYS) missing.emplace_back(call.name);
  return missing;
}

bool has_word(const std::string& text, const std::string& word) {
  std::istringstream words(text);
  for (std::string each; words >> each;)
    if (each == word) return true;
  return false;
}

/// Whether the kernel's module list has NAME.ko, compressed or not; '-' and '_' are the same in names of modules.
bool lists_module(const std::string& list, const std::string& name) {
  std::string dashed = name;
  std::ranges::replace(dashed, '_', '-');
  return list.find("/" + name + ".ko") != std::string::npos || list.find("/" + dashed + ".ko") != std::string::npos;
}

KernelFacts read_kernel() {
  const RootDir root("/");
  KernelFacts kernel;
  utsname name{};
  if (uname(&name) == 0) kernel.release = name.release;
  kernel.missing_calls = read_missing_calls();
  kernel.max_network_namespaces = root.read_number("proc/sys/user/max_net_namespaces");
  kernel.has_iommu = !root.list("sys/class/iommu").empty();
  kernel.has_rdma_controller = has_word(root.read_text("proc/cgroups").value_or(""), "rdma") ||
                               has_word(root.read_text("sys/fs/cgroup/cgroup.controllers").value_or(""), "rdma");
  kernel.has_selinux = root.exists("sys/fs/selinux/enforce");
  constexpr std::size_t kLargest = std::size_t{4} << 20;
  const std::string modules = "lib/modules/" + kernel.release;
  const std::string builtin = root.read_text(modules + "/modules.builtin", kLargest).value_or("");
  const std::string loadable = root.read_text(modules + "/modules.dep", kLargest).value_or("");
  const std::string file_systems = root.read_text("proc/filesystems").value_or("");
  for (const char* feature : {"squashfs", "overlay", "fuse", "loop", "macvlan", "ib_uverbs", "rdma_ucm"}) {
    const bool is_there = has_word(file_systems, feature) || root.exists(fmt::format("sys/module/{}", feature)) ||
                          lists_module(builtin, feature) ||
                          (feature == std::string("loop") && root.exists("dev/loop-control"));
    // A kernel without a list of its modules may have everything built in.
    if (!is_there && builtin.empty() && loadable.empty()) continue;
    kernel.features[feature] = is_there                          ? Available::yes
                               : lists_module(loadable, feature) ? Available::loadable
                                                                 : Available::no;
  }
  return kernel;
}

std::optional<Error> error_of(const auto& action) {
  try {
    action();
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  }
}

PolicyFacts read_policy(const std::string& path) {
  PolicyFacts facts{.path = path, .policy = {}, .problem = {}, .distrust = {}};
  facts.problem = error_of([&] { facts.policy = read_policy_file(path, false); });
  if (facts.policy) facts.distrust = error_of([&] { read_policy_file(path, true); });
  return facts;
}

OnloadFacts read_onload_facts(const PolicyFacts& policy) {
  OnloadFacts facts;
  if (!policy.policy || !policy.policy->onload.enabled) return facts;
  facts.is_enabled = true;
  facts.problem = error_of([&] { facts.version = read_onload(*policy.policy, {}, true).version; });
  if (facts.problem) return facts;
  for (const std::string& profile : list_onload_profiles(policy.policy->onload)) {
    auto refusal = error_of([&] { read_onload(*policy.policy, {profile}, true); });
    if (refusal) {
      facts.refusals.push_back(std::move(*refusal));
    } else {
      facts.profiles.push_back(profile);
    }
  }
  return facts;
}

bool is_roots_alone(std::filesystem::path path) {
  for (;; path = path.parent_path()) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0 || status.st_uid != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
      return false;
    if (path == path.parent_path()) return true;
  }
}

std::vector<ImagePathFacts> read_image_paths(const PolicyFacts& policy) {
  std::vector<ImagePathFacts> paths;
  if (!policy.policy) return paths;
  for (const std::string& path : policy.policy->images.paths)
    paths.push_back({path, access(path.c_str(), F_OK) == 0, is_roots_alone(path)});
  return paths;
}

std::vector<ParkedImageFacts> look_for_parked_images(const PolicyFacts& policy, const std::string& state_directory) {
  std::vector<ParkedImageFacts> images;
  if (!policy.policy) return images;
  for (const std::string& path : policy.policy->images.parked)
    images.push_back({path, is_parked(state_directory, path)});
  return images;
}

/// VFs whose netdev is up and without carrier although their PF has one.
std::vector<std::string> read_vfs_without_carrier(const RootDir& root, const Inventory& inventory) {
  const auto carrier = [&](const std::string& netdev) {
    return root.read_number("sys/class/net/" + netdev + "/carrier");
  };
  std::vector<std::string> names;
  for (const VirtualFunction& vf : inventory.virtual_functions) {
    const auto pf = std::ranges::find(inventory.physical_functions, vf.pf, &PhysicalFunction::pci);
    if (vf.netdev.empty() || pf == inventory.physical_functions.end() || pf->netdev.empty()) continue;
    // A netdev that is down does not tell: its file cannot be read.
    if (carrier(pf->netdev) == 1U && carrier(vf.netdev) == 0U) names.push_back(vf.netdev);
  }
  return names;
}

/// The arguments of the daemon; none where it ends meanwhile.
std::optional<std::vector<std::string>> read_irqbalance() {
  for (const int pid : find_processes("irqbalance")) try {
      return read_command_line(pid);
    } catch (const Error&) {
      continue;
    }
  return std::nullopt;
}

void read_journal(const std::string& state_directory, NodeFacts& facts) {
  const Journal journal(state_directory, Journal::Use::look);
  for (const std::string& id : journal.ids()) {
    auto record = journal.read(id);
    if (!record) continue;
    const bool rests = record->phase == Phase::parked || record->phase == Phase::quarantined;
    const bool is_orphan = facts.is_root && !rests && !journal.is_locked(id);
    facts.leases.push_back({std::move(*record), is_orphan});
  }
  if (facts.is_root)
    for (const std::string& id : journal.traces())
      if (!journal.read(id) && !journal.is_locked(id)) facts.stale_traces.push_back(id);
}

}  // namespace

NodeFacts read_node_facts(Inventory inventory, const DoctorOptions& options) {
  const RootDir root(options.sysfs_root);
  NodeFacts facts;
  facts.is_root = geteuid() == 0;
  facts.kernel = read_kernel();
  facts.inventory = std::move(inventory);
  facts.vfs_without_carrier = read_vfs_without_carrier(root, facts.inventory);
  facts.policy = read_policy(options.policy_path);
  facts.image_paths = read_image_paths(facts.policy);
  if (facts.is_root) facts.parked_images = look_for_parked_images(facts.policy, options.state_directory);
  for (const char* program :
       {"/usr/bin/squashfuse_ll", "/usr/bin/squashfuse", "/usr/local/bin/squashfuse_ll", "/usr/local/bin/squashfuse"})
    facts.has_squashfuse = facts.has_squashfuse || access(program, X_OK) == 0;
  struct stat fuse {};
  constexpr mode_t kForEverybody = S_IROTH | S_IWOTH;
  facts.fuse_is_open = stat("/dev/fuse", &fuse) == 0 && (fuse.st_mode & kForEverybody) == kForEverybody;
  facts.run_obstacle = find_setuid_obstacle(BERTH_LIBEXECDIR "/berth-enter");
  facts.user_namespaces = read_user_namespace_limits();
  facts.onload = read_onload_facts(facts.policy);
  facts.irqbalance = read_irqbalance();
  facts.slurm = read_slurm_facts();
  read_journal(options.state_directory, facts);
  return facts;
}

}  // namespace berth
