#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "launcher/doctor/checks.hpp"

namespace berth {
namespace {

bool any_pool(const NodeFacts& facts, bool (*is)(const Pool&)) {
  return facts.policy.policy && std::ranges::any_of(facts.policy.policy->pools, is);
}

std::optional<Available> availability(const NodeFacts& facts, const std::string& feature) {
  const auto found = facts.kernel.features.find(feature);
  return found == facts.kernel.features.end() ? std::nullopt : std::optional(found->second);
}

/// Whether "6.1.0-18-amd64" is an older kernel than MAJOR.MINOR; what does not look like a version is not.
bool is_older(const std::string& release, int major, int minor) {
  int found_major = 0, found_minor = 0;
  if (std::sscanf(release.c_str(), "%d.%d", &found_major, &found_minor) != 2) return false;
  return std::pair(found_major, found_minor) < std::pair(major, minor);
}

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::error:
      break;
  }
  return "error";
}

Findings check_view(const NodeFacts& facts) {
  if (facts.is_root) return {{Severity::ok, "everything could be looked at", "", ""}};
  return {{Severity::note, "not all could be looked at",
           "only root sees who holds a lock, what is left of dead processes, and the limits of slurmd",
           "run berth doctor as root for these"}};
}

Findings check_kernel(const NodeFacts& facts) {
  const KernelFacts& kernel = facts.kernel;
  if (!kernel.missing_calls.empty())
    return {{Severity::error, fmt::format("Linux {} is too old", kernel.release),
             fmt::format("it does not have {}", fmt::join(kernel.missing_calls, ", ")),
             "Berth needs Linux 5.12 or newer"}};
  if (kernel.max_network_namespaces == 0U)
    return {{Severity::error, "no network namespace can be made", "/proc/sys/user/max_net_namespaces is 0",
             "sysctl -w user.max_net_namespaces=65536, and in /etc/sysctl.d"}};
  return {{Severity::ok, fmt::format("Linux {} has all that Berth asks of it", kernel.release), "", ""}};
}

Findings check_modules(const NodeFacts& facts) {
  struct Need {
    const char* feature;
    const char* purpose;
    bool is_needed;
  };
  const bool with_macvlan = any_pool(facts, [](const Pool& pool) { return pool.kind == PoolKind::macvlan; });
  const bool with_rdma = any_pool(facts, [](const Pool& pool) { return pool.rdma.mode != RdmaMode::off; });
  const Need needs[] = {{"squashfs", "images", true},
                        {"loop", "images", true},
                        {"overlay", "mount points that an image lacks", true},
                        {"fuse", "images that users can write to", facts.has_squashfuse},
                        {"macvlan", "pools with kind = \"macvlan\"", with_macvlan},
                        {"ib_uverbs", "pools with rdma", with_rdma},
                        {"rdma_ucm", "rdma_cm, which MPI libraries connect with", with_rdma}};
  Findings findings;
  std::vector<std::string> present;
  for (const Need& need : needs) {
    const auto available = availability(facts, need.feature);
    if (available && *available != Available::no) present.emplace_back(need.feature);
    // What can be loaded is: the kernel does it when a file system or a kind of link is asked for.
    if (!need.is_needed || available != Available::no) continue;
    findings.push_back({Severity::error, fmt::format("the kernel has no {}", need.feature),
                        fmt::format("it is needed for {}", need.purpose),
                        fmt::format("install the module {} for Linux {}", need.feature, facts.kernel.release)});
  }
  // These nobody loads by asking for them.
  for (const char* module : {"ib_uverbs", "rdma_ucm"})
    if (with_rdma && availability(facts, module) == Available::loadable)
      findings.push_back({Severity::warning, fmt::format("the module {} is not loaded", module),
                          "programs find no RDMA device without it",
                          fmt::format("modprobe {0}; echo {0} > /etc/modules-load.d/berth.conf", module)});
  if (findings.empty())
    findings.push_back({Severity::ok,
                        present.empty() ? std::string("the kernel does not list its modules")
                                        : fmt::format("there are {}", fmt::join(present, ", ")),
                        "", ""});
  return findings;
}

Findings check_iommu(const NodeFacts& facts) {
  const bool with_vfs = any_pool(facts, [](const Pool& pool) { return pool.kind == PoolKind::sriov; });
  if (facts.kernel.has_iommu) return {{Severity::ok, "the IOMMU is on", "", ""}};
  if (!with_vfs) return {{Severity::ok, "the IOMMU is off, and no pool has VFs", "", ""}};
  return {
      {Severity::note, "the IOMMU is off",
       "VFs then reach memory unchecked: their drivers and firmware alone keep ranks apart, and usNIC does not work",
       "turn on VT-d or AMD-Vi in the BIOS, and boot with intel_iommu=on or amd_iommu=on, and iommu=pt"}};
}

Findings check_rdma(const NodeFacts& facts) {
  const auto has_rdma = [](const Pool& pool) { return pool.rdma.mode != RdmaMode::off; };
  if (!any_pool(facts, has_rdma)) return {{Severity::ok, "no pool has RDMA", "", ""}};
  Findings findings;
  for (const Pool& pool : facts.policy.policy->pools) {
    if (!has_rdma(pool)) continue;
    if ((pool.rdma.hca_handles || pool.rdma.hca_objects) && !facts.kernel.has_rdma_controller)
      findings.push_back({Severity::error, fmt::format("pool \"{}\" cannot limit RDMA resources", pool.name),
                          "its hca_handles and hca_objects need the control group controller rdma, which is not there",
                          "boot without cgroup_disable=rdma, or remove them from the pool"});
    if (pool.rdma.device_rules && is_older(facts.kernel.release, 6, 1))
      findings.push_back({Severity::error, fmt::format("pool \"{}\" cannot have device rules", pool.name),
                          fmt::format("they need Linux 6.1, and this is {}", facts.kernel.release),
                          "use a newer kernel, or device_rules = false in the pool"});
    if (!pool.rdma.selinux_label.empty() && !facts.kernel.has_selinux)
      findings.push_back({Severity::note, fmt::format("the SELinux label of pool \"{}\" has no effect", pool.name),
                          "SELinux is off on this node", "boot with SELinux, or remove selinux_label from the pool"});
  }
  const auto& mode = facts.inventory.rdma_netns_mode;  // whether it fits a pool, check_pools() says
  if (findings.empty())
    findings.push_back(
        {Severity::ok, fmt::format("the RDMA netns mode is {}", mode ? to_string(*mode) : "unknown"), "", ""});
  return findings;
}

}  // namespace berth
