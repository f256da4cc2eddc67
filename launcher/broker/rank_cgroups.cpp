#include "launcher/broker/rank_cgroups.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "launcher/system/cgroup.hpp"
#include "launcher/system/cgroup_devices.hpp"
#include "launcher/system/cgroup_tree.hpp"

namespace berth {

namespace {

constexpr const char* kPrefix = "berth-rank.";
constexpr const char* kLimitsController = "rdma";

bool wants_limits(const RdmaSettings& settings) { return settings.hca_handles || settings.hca_objects; }

bool lists(const std::string& controllers, std::string_view name) {
  for (std::size_t begin = 0; begin < controllers.size();) {
    const std::size_t end = std::min(controllers.find_first_of(" \n", begin), controllers.size());
    if (std::string_view(controllers).substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

/// Version 2 has a controller in a cgroup only if every one above it hands it down.
void enable_limits(const CgroupTree& tree, const std::string& path) {
  auto above = cgroup_ancestry(path);
  above.pop_back();
  for (const std::string& group : above) {
    if (lists(tree.read(group, "cgroup.subtree_control"), kLimitsController)) continue;
    try {
      tree.write(group, "cgroup.subtree_control", fmt::format("+{}", kLimitsController));
    } catch (const Error& error) {
      throw Error(
          ErrorCode::host, "cannot limit RDMA objects (hca_handles, hca_objects of the pool)",
          fmt::format("cgroup '{}' does not hand the controller 'rdma' down: {}", group, error.why),
          "let Slurm give each task a cgroup (TaskPlugin=task/cgroup), check that the kernel has CONFIG_CGROUP_RDMA, "
          "or remove the limits from the pool");
    }
  }
}

}  // namespace

void RankCgroups::apply(const std::vector<RankOfDevice>& ranks) {
  // All ranks first: a cgroup can hand a controller down only when no process is left in it.
  for (const RankOfDevice& rank : ranks)
    if (wants_limits(*rank.settings)) choose_cgroup(kLimitsController, rank, ranks);
  apply_rules(ranks);
  apply_limits(ranks);
}

std::string RankCgroups::choose_cgroup(const std::string& controller, const RankOfDevice& rank,
                                       const std::vector<RankOfDevice>& ranks) {
  const CgroupTree tree = CgroupTree::with_controller(controller);
  std::string path = tree.path_of(rank.pid);
  if (path.ends_with(fmt::format("/{}{}", kPrefix, rank.name))) return path;
  // Rules of a cgroup hold for those below it, too, where other ranks may be.
  if (path != "/" && !tree.has_children(path)) {
    const auto processes = tree.processes(path);
    const bool has_ranks_only = std::ranges::all_of(
        processes, [&](int pid) { return std::ranges::find(ranks, pid, &RankOfDevice::pid) != ranks.end(); });
    if (processes == std::vector<int>{rank.pid} || (has_ranks_only && parse_slurm_cgroup(path))) return path;
  }
  path = cgroup_child(path, kPrefix + rank.name);
  tree.make(path);
  made_.push_back({tree.is_unified() ? "" : controller, path});
  tree.move_process(rank.pid, path);
  return path;
}

void RankCgroups::apply_limits(const std::vector<RankOfDevice>& ranks) {
  if (std::ranges::none_of(ranks, [](const RankOfDevice& rank) { return wants_limits(*rank.settings); })) return;
  const CgroupTree tree = CgroupTree::with_controller(kLimitsController);
  std::map<std::pair<std::string, std::string>, unsigned> counts;  // of ranks, by cgroup and device
  for (const RankOfDevice& rank : ranks) {
    if (!wants_limits(*rank.settings)) continue;
    const std::string path = tree.path_of(rank.pid);
    if (tree.is_unified()) enable_limits(tree, path);
    for (const RdmaGrant* grant : rank.grants) {
      const unsigned count = ++counts[{path, grant->device}];
      std::string limits = grant->device;
      if (rank.settings->hca_handles) limits += fmt::format(" hca_handle={}", count * *rank.settings->hca_handles);
      if (rank.settings->hca_objects) limits += fmt::format(" hca_object={}", count * *rank.settings->hca_objects);
      tree.write(path, "rdma.max", limits);
      limited_.push_back({kLimitsController, path, grant->device});
    }
  }
}

void RankCgroups::apply_rules(const std::vector<RankOfDevice>& ranks) {
  const CgroupTree tree = CgroupTree::unified();
  const auto majors = parse_guarded_majors(read_file(AT_FDCWD, "/proc/devices"));
  std::map<std::string, std::vector<DeviceRule>> rules;  // by the cgroup that their program is attached to
  for (const RankOfDevice& rank : ranks) {
    if (!rank.settings->device_rules) continue;
    const std::string path = choose_cgroup("", rank, ranks);
    const auto ancestry = cgroup_ancestry(path);
    std::vector<DeviceAttachment> attachments;
    for (const std::string& group : ancestry) attachments.push_back(read_device_attachment(tree, group));
    const auto level = choose_attach_level(attachments);
    if (!level)
      throw Error(ErrorCode::host, fmt::format("cannot restrict RDMA devices in cgroup '{}'", path),
                  "a device program at the root of all cgroups lets no other be added",
                  "find out whose it is (bpftool cgroup tree), or set device_rules = false in the pool");
    std::vector<DeviceRule>& of_level = rules[ancestry[*level]];
    auto rule = std::ranges::find(of_level, tree.id(path), &DeviceRule::cgroup);
    if (rule == of_level.end())
      rule = of_level.insert(rule, {tree.id(path), static_cast<unsigned>(ancestry.size() - 1), {}});
    for (const RdmaGrant* grant : rank.grants)
      for (const RdmaNode& node : grant->nodes) rule->allowed.push_back({node.major, node.minor});
    rule->allowed.insert(rule->allowed.end(), rank.further_devices.begin(), rank.further_devices.end());
  }
  for (const auto& [path, of_path] : rules) links_.push_back(attach_device_rules(tree, path, majors, of_path));
}

RankCgroups::~RankCgroups() {
  // A cgroup of Slurm's may stay when the rank is gone.
  for (const Made& limited : limited_) try {
      const CgroupTree tree = CgroupTree::with_controller(limited.controller);
      if (tree.exists(limited.path))
        tree.write(limited.path, "rdma.max", limited.device + " hca_handle=max hca_object=max");
    } catch (const Error&) {  // Slurm has just removed it, or somebody the device
    }
  for (const Made& made : made_) try {
      const CgroupTree tree = CgroupTree::with_controller(made.controller);
      if (!tree.exists(made.path)) continue;
      tree.kill(made.path);
      tree.remove(made.path);
    } catch (const Error& error) {
      syslog(LOG_WARNING, "%s", error.render().c_str());
    }
}

void remove_stale_cgroups() {
  for (const char* controller : {"", kLimitsController}) {
    const CgroupTree tree = CgroupTree::with_controller(controller);
    for (const std::string& path : tree.find("berth-"))
      if (tree.processes(path).empty()) tree.remove(path);
  }
}

}  // namespace berth
