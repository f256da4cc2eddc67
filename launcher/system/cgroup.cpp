#include "launcher/system/cgroup.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <vector>

#include "launcher/core/values.hpp"
#include "launcher/system/cgroup_tree.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

namespace {

/// "job_7" and the like: the number, at the start of `text`, after `prefix`.
std::optional<std::uint32_t> parse_after(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  text = text.substr(prefix.size(), text.find('/', prefix.size()) - prefix.size());
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// A line of /proc/PID/cgroup: "9:freezer:/slurm/…", "0::/system.slice/…".
struct Membership {
  std::string controller;  // the first one; empty: version 2
  std::string path;
};
std::vector<Membership> read_memberships(int pid) {
  std::vector<Membership> memberships;
  const std::string text = read_file(AT_FDCWD, fmt::format("/proc/{}/cgroup", pid));
  for (const std::string_view line : split_lines(text)) {
    const std::size_t controllers = line.find(':');
    const std::size_t path = line.find(':', controllers + 1);
    if (path == std::string_view::npos) continue;
    const std::string_view names = line.substr(controllers + 1, path - controllers - 1);
    if (names.starts_with("name=")) continue;
    memberships.push_back({std::string(names.substr(0, names.find(','))), std::string(line.substr(path + 1))});
  }
  return memberships;
}

/// What lies above the job: "/slurm" of "/slurm/uid_1000/job_7/step_0".
std::string above_job(std::string_view path) {
  path = path.substr(0, path.find("/job_"));
  if (const auto uid = path.rfind("/uid_"); uid != std::string_view::npos) path = path.substr(0, uid);
  return path.empty() ? "/" : std::string(path);
}

}  // namespace

std::optional<SlurmStepId> parse_slurm_cgroup(std::string_view path) {
  const std::size_t begin = path.find("/job_");
  if (begin == std::string_view::npos) return std::nullopt;
  const auto job = parse_after(path.substr(begin), "/job_");
  const std::size_t end = path.find('/', begin + 1);
  if (!job || end == std::string_view::npos) return std::nullopt;
  SlurmStepId id{.job = *job, .step = 0, .node = {}};
  const std::string_view step = path.substr(end, path.find('/', end + 1) - end);
  if (step == "/step_batch") {
    id.step = kBatchStep;
  } else if (step == "/step_extern") {
    id.step = kExternStep;
  } else if (step == "/step_interactive") {
    id.step = kInteractiveStep;
  } else if (const auto number = parse_after(step, "/step_")) {
    id.step = *number;
  } else {
    return std::nullopt;
  }
  // With --enable-multiple-slurmd the name of the node is in that of the group: "slurm_n1", "n1_slurmstepd.scope".
  constexpr std::string_view kBefore = "slurm_", kAfter = "_slurmstepd.scope";
  const std::string above = above_job(path);
  const std::string_view top = std::string_view(above).substr(above.rfind('/') + 1);
  if (top.starts_with(kBefore)) id.node = top.substr(kBefore.size());
  if (top.ends_with(kAfter)) id.node = top.substr(0, top.size() - kAfter.size());
  return id;
}

std::optional<SlurmStepId> read_slurm_step_of(int pid) {
  for (const auto& [controller, path] : read_memberships(pid)) {
    const auto id = parse_slurm_cgroup(path);
    if (!id) continue;
    const CgroupTree tree = CgroupTree::with_controller(controller);
    const std::string job = path.substr(0, path.find('/', path.find("/job_") + 1));
    struct stat status {};
    const UniqueFd directory = tree.open(job);
    if (fstat(directory.get(), &status) == 0 && status.st_uid == 0) return id;
  }
  return std::nullopt;
}

std::optional<StepCgroups> make_step_cgroups(std::string_view path, int pid) {
  const auto job = path.find("/job_");
  if (job == std::string_view::npos) return std::nullopt;
  const auto step = path.find('/', job + 1);
  if (step == std::string_view::npos || !path.substr(step).starts_with("/step_")) return std::nullopt;
  return StepCgroups{fmt::format("{}/berth", path.substr(0, job)),
                     fmt::format("{}/berth-{}", path.substr(0, step), pid)};
}

std::string leave_step_cgroup() {
  std::string services;
  for (const auto& [controller, path] : read_memberships(getpid())) {
    const auto groups = make_step_cgroups(path, getpid());
    if (!groups) continue;
    const CgroupTree tree = CgroupTree::with_controller(controller);
    if (!tree.is_unified()) {
      tree.move_process(getpid(), above_job(path));
      continue;
    }
    tree.make(groups->broker);  // version 2 has processes in leaves only
    tree.move_process(getpid(), groups->broker);
    tree.make(groups->services);
    services = groups->services;
  }
  return services;
}

UniqueFd open_cgroup_to_join(const std::string& services) {
  if (services.empty()) return {};
  UniqueFd fd(openat(CgroupTree::unified().open(services).get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!fd) throw system_error(errno, fmt::format("cannot use cgroup '{}'", services), "open cgroup.procs");
  return fd;
}

void join_cgroup(int fd) {
  // slurmd keeps itself and its children from the out-of-memory killer. What runs as the user must be killable where
  // the job's memory is at its limit, or the kernel finds nobody and the job hangs.
  if (const UniqueFd score(open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)); score) {
    char first = 0;
    if (read(score.get(), &first, 1) == 1 && first == '-') [[maybe_unused]]
      const ssize_t written = pwrite(score.get(), "0", 1, 0);
  }
  if (fd >= 0) [[maybe_unused]]
    const ssize_t written = write(fd, "0", 1);
}

void remove_cgroup(const std::string& services) {
  if (!services.empty()) CgroupTree::unified().remove(services);
}

}  // namespace berth
