#include <fmt/format.h>

#include "launcher/doctor/checks.hpp"

namespace berth {

namespace {

/// What users get where berth-enter has no rights.
Finding judge_run_without_helper(const NodeFacts& facts) {
  std::string what = "`berth run` gives users images in user namespaces, the host's network and shared devices";
  std::string why = facts.run_obstacle;
  std::string fix = "where mpirun or mpiexec is to give out devices: chown root " BERTH_LIBEXECDIR
                    "/berth-enter && chmod u+s " BERTH_LIBEXECDIR "/berth-enter";
  if (const auto obstacle = find_user_namespace_obstacle(facts.user_namespaces)) {
    what = "`berth run` gives users the host's network and shared devices, and no image";
    why += "; " + obstacle->why;
    fix += "; for images without it: " + obstacle->fix;
  } else if (!facts.fuse_is_open || !facts.has_squashfuse) {
    what = "`berth run` gives users directories as images, the host's network and shared devices";
    why += facts.has_squashfuse ? "; users may not open /dev/fuse" : "; there is no program squashfuse";
    fix += facts.has_squashfuse ? "; for squashfs and SIF without it: chmod 666 /dev/fuse, as udev does"
                                : "; for squashfs and SIF without it: install the package squashfuse";
  }
  return {Severity::note, what, why, fix};
}

}  // namespace

Findings check_run(const NodeFacts& facts) {
  if (!facts.run_obstacle.empty()) return {judge_run_without_helper(facts)};
  const bool everybody = facts.policy.policy && facts.policy.policy->run_outside_jobs;
  return {{Severity::ok,
           fmt::format("`berth run` gives devices {}",
                       everybody ? "to everybody whom the policy allows them" : "to those who have a Slurm job here"),
           "", ""}};
}

}  // namespace berth
