#include "launcher/system/cgroup.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/system/fd.hpp"

namespace berth {

namespace {

constexpr const char* kMountPoint = "/sys/fs/cgroup";

}  // namespace

std::optional<std::string> make_cgroup_outside_jobs(std::string_view path) {
  const auto job = path.find("/job_");
  if (job == std::string_view::npos) return std::nullopt;
  const auto step = path.find('/', job + 1);
  if (step == std::string_view::npos || !path.substr(step).starts_with("/step_")) return std::nullopt;
  return fmt::format("{}/berth", path.substr(0, job));
}

void leave_step_cgroup() {
  constexpr std::string_view kUnified = "0::";
  const std::string groups = "\n" + read_file(AT_FDCWD, "/proc/self/cgroup");
  const auto start = groups.find(fmt::format("\n{}", kUnified));
  if (start == std::string::npos) return;
  const std::string_view line = std::string_view(groups).substr(start + 1 + kUnified.size());
  const auto target = make_cgroup_outside_jobs(line.substr(0, line.find('\n')));
  if (!target) return;
  const std::string directory = kMountPoint + *target;
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
    throw system_error(errno, "cannot leave the step's control group", fmt::format("mkdir {}", directory));
  write_control_file(directory + "/cgroup.procs", std::to_string(getpid()));
}

}  // namespace berth
