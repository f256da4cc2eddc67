#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "launcher/core/plan.hpp"
#include "launcher/doctor/checks.hpp"

namespace berth {
namespace {

Finding from_error(const Error& error) { return {Severity::error, error.what_text, error.why, error.fix}; }

/// One finding for each reason for which devices of the pool cannot be had; leased ones are as they should be.
void judge_pool(const Pool& pool, const Inventory& inventory, Findings& findings) {
  std::vector<Candidate> devices;
  try {
    devices = make_candidates(pool, inventory);
  } catch (const Error& error) {
    findings.push_back(from_error(error));
    return;
  }
  if (devices.empty()) {
    findings.push_back({Severity::error, fmt::format("pool \"{}\" has no device", pool.name),
                        fmt::format("nothing here is one of its parents: {}", fmt::join(pool.parents, ", ")),
                        pool.kind == PoolKind::sriov
                            ? "make VFs (sriov_numvfs), or correct `parents` of the pool"
                            : "correct `parents` of the pool; `berth devices` lists what there is"});
    return;
  }
  std::map<std::string, std::vector<std::string>> unusable;
  std::size_t count = 0;
  for (const Candidate& device : devices) {
    // Leases are not defects, and quarantined devices are for check_leases().
    if (device.unusable.empty() || device.unusable.starts_with("leased by ") ||
        device.unusable.starts_with("quarantined: "))
      continue;
    unusable[device.unusable].push_back(device.berth.id);
    ++count;
  }
  for (const auto& [reason, ids] : unusable)
    findings.push_back({count == devices.size() ? Severity::error : Severity::warning,
                        fmt::format("{} of {} devices of pool \"{}\" cannot be used: {}", ids.size(), devices.size(),
                                    pool.name, fmt::join(ids, ", ")),
                        reason, "remove the cause; no step is given these devices meanwhile"});
  if (count == 0)
    findings.push_back({Severity::ok, fmt::format("pool \"{}\": {} devices", pool.name, devices.size()), "", ""});
}

bool is_parent(const Policy& policy, const PhysicalFunction& pf) {
  return std::ranges::any_of(policy.pools, [&](const Pool& pool) {
    return pool.kind == PoolKind::sriov && std::ranges::any_of(pool.parents, [&](const std::string& parent) {
             return fnmatch(parent.c_str(), pf.netdev.c_str(), 0) == 0 || parse_pci_address(parent) == pf.pci ||
                    fnmatch(parent.c_str(), to_string(pf.pci).c_str(), 0) == 0;
           });
  });
}

}  // namespace

Findings check_onload(const NodeFacts& facts) {
  const OnloadFacts& onload = facts.onload;
  if (!onload.is_enabled) return {{Severity::ok, "the policy does not allow Onload", "", ""}};
  if (onload.problem) return {from_error(*onload.problem)};
  Findings findings{
      {Severity::ok,
       fmt::format("{} can be used; profiles: {}", onload.version,
                   onload.profiles.empty() ? std::string("none") : fmt::format("{}", fmt::join(onload.profiles, ", "))),
       "", ""}};
  for (const Error& refusal : onload.refusals)
    findings.push_back({Severity::note, refusal.what_text, refusal.why, refusal.fix});
  return findings;
}

Findings check_policy(const NodeFacts& facts) {
  const PolicyFacts& policy = facts.policy;
  if (policy.problem) return {from_error(*policy.problem)};
  if (policy.distrust) return {from_error(*policy.distrust)};
  Findings findings{{Severity::ok, fmt::format("{} is valid, and root's alone", policy.path), "", ""}};
  if (policy.policy && policy.policy->pools.empty())
    findings.push_back({Severity::note, "the policy has no pool", "so nobody can get a device", "add a [[pool]]"});
  return findings;
}

Findings check_pools(const NodeFacts& facts) {
  if (!facts.policy.policy) return {};
  Findings findings;
  for (const Pool& pool : facts.policy.policy->pools) judge_pool(pool, facts.inventory, findings);
  return findings;
}

Findings check_functions(const NodeFacts& facts) {
  Findings findings;
  if (!facts.policy.policy) return {};
  for (const PhysicalFunction& pf : facts.inventory.physical_functions) {
    if (!is_parent(*facts.policy.policy, pf)) continue;
    const std::string name = pf.netdev.empty() ? to_string(pf.pci) : pf.netdev;
    if (pf.total_vfs == 0) {
      findings.push_back({Severity::error, fmt::format("{} cannot have VFs", name), "its sriov_totalvfs is 0",
                          "turn on SR-IOV in the BIOS and in the firmware of the card"});
    } else if (pf.num_vfs == 0) {
      findings.push_back({Severity::error, fmt::format("{} has no VFs", name), "its sriov_numvfs is 0: nobody made any",
                          fmt::format("ip link set {} up, then at every boot before berth-park: echo {} > "
                                      "/sys/bus/pci/devices/{}/sriov_numvfs",
                                      name, pf.total_vfs, to_string(pf.pci))});
    } else {
      findings.push_back(
          {Severity::ok, fmt::format("{} has {} of {} possible VFs", name, pf.num_vfs, pf.total_vfs), "", ""});
    }
  }
  if (!facts.vfs_without_carrier.empty())
    findings.push_back({Severity::warning,
                        fmt::format("VFs have no carrier: {}", fmt::join(facts.vfs_without_carrier, ", ")),
                        "their PF has one; VFs that are made while the PF is down stay so with some drivers",
                        "unpark them, echo 0 > sriov_numvfs, bring the PF up, then make the VFs again"});
  if (findings.empty()) findings.push_back({Severity::ok, "no pool has VFs of a PF of this node", "", ""});
  return findings;
}

Findings check_irqs(const NodeFacts& facts) {
  if (!facts.policy.policy || facts.policy.policy->irqs == IrqSteering::off)
    return {{Severity::ok, "interrupts are served where they are", "", ""}};
  if (!facts.irqbalance) return {{Severity::ok, "no irqbalance moves interrupts away from their ranks", "", ""}};
  const std::string fix =
      "stop it (systemctl disable --now irqbalance), or start it with a --policyscript that bans the pools' devices "
      "(docs/policy.md, [pinning])";
  for (const std::string& argument : *facts.irqbalance)
    if (argument.starts_with("--policyscript") || argument.starts_with("-l") || argument.starts_with("--ban"))
      return {{Severity::note, fmt::format("irqbalance runs, with {}", argument),
               "it moves interrupts that it is not told to leave alone away from their ranks",
               "see that this means the pools' devices; else " + fix}};
  return {{Severity::warning, "irqbalance moves interrupts away from their ranks",
           "the policy has irqs = \"near\", and the daemon spreads all interrupts anew every few seconds", fix}};
}

Findings check_images(const NodeFacts& facts) {
  if (!facts.policy.policy) return {};
  if (facts.image_paths.empty())
    return {{Severity::note, "no image is allowed", "the policy has no images.paths",
             "add them, unless all ranks use --rdma-container=none"}};
  const bool kernel_mounts = facts.policy.policy->images.kernel_mount == KernelMount::trusted;
  Findings findings;
  for (const ImagePathFacts& path : facts.image_paths) {
    if (!path.exists) {
      findings.push_back({Severity::warning, fmt::format("{} does not exist", path.path),
                          "the policy allows images there", "mount it, make it, or correct images.paths"});
    } else if (!(kernel_mounts && path.is_trusted) && !facts.has_squashfuse) {
      findings.push_back({Severity::warning, fmt::format("image files in {} cannot be mounted", path.path),
                          kernel_mounts ? "others than root can write there, and squashfuse is not installed"
                                        : "kernel_mount is \"never\", and squashfuse is not installed",
                          "install squashfuse, or use image directories"});
    } else {
      findings.push_back({Severity::ok,
                          fmt::format("{}: images are mounted by {}", path.path,
                                      kernel_mounts && path.is_trusted ? "the kernel" : "squashfuse"),
                          "", ""});
    }
  }
  for (const ParkedImageFacts& image : facts.parked_images)
    findings.push_back(
        image.is_parked ? Finding{Severity::ok, fmt::format("{} is parked", image.path), "", ""}
                        : Finding{Severity::note, fmt::format("{} is not parked", image.path),
                                  "the policy wants it to be; it is not there, has changed, or nobody has parked it, "
                                  "so each run mounts it anew",
                                  fmt::format("berth park {}", image.path)});
  return findings;
}

Findings check_leases(const NodeFacts& facts) {
  Findings findings;
  std::size_t leased = 0;
  for (const LeaseFacts& lease : facts.leases) {
    const LeaseRecord& record = lease.record;
    if (record.phase == Phase::leased) ++leased;
    if (record.phase == Phase::quarantined) {
      findings.push_back({Severity::warning, fmt::format("device {} is in quarantine", record.berth.id), record.reason,
                          "remove the cause, then run as root: berth repair"});
    } else if (lease.is_orphan) {
      findings.push_back({Severity::warning, fmt::format("device {} was left behind", record.berth.id),
                          record.owner ? fmt::format("{} held it, and its broker died", to_string(*record.owner))
                                       : "a process died while it changed the device",
                          "run as root: berth repair"});
    }
  }
  if (!facts.stale_traces.empty())
    findings.push_back({Severity::note, fmt::format("traces of {} are left", fmt::join(facts.stale_traces, ", ")),
                        "locks or pinned namespaces without a record, which no process holds",
                        "run as root: berth repair"});
  if (findings.empty())
    findings.push_back({Severity::ok,
                        fmt::format("{} devices parked or leased, {} of them leased", facts.leases.size(), leased), "",
                        ""});
  return findings;
}

}  // namespace berth
