#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "launcher/core/gres.hpp"
#include "launcher/doctor/checks.hpp"

namespace berth {
namespace {

std::string value(const NodeFacts& facts, const std::string& key) {
  const auto found = facts.slurm.configuration.find(key);
  return found == facts.slurm.configuration.end() ? std::string() : found->second;
}

/// "22.05.8" as MAJOR << 16 | MINOR << 8 | MICRO; 0 if it is no version.
unsigned parse_version(const std::string& text) {
  unsigned version = 0;
  const char* position = text.data();
  const char* end = text.data() + text.size();
  for (int part = 0; part < 3; ++part) {
    unsigned number = 0;
    const auto [rest, error] = std::from_chars(position, end, number);
    if (error != std::errc{} || number > 255) return 0;
    version = version << 8 | number;
    position = rest == end ? rest : rest + 1;
  }
  return version;
}

std::string version_text(unsigned version) {
  return fmt::format("{}.{:02}.{}", version >> 16, version >> 8 & 0xff, version & 0xff);
}

std::string bytes_text(std::uint64_t bytes) {
  return bytes == UINT64_MAX ? "unlimited"
         : bytes >= 1 << 20  ? fmt::format("{} MiB", bytes >> 20)
                             : fmt::format("{} KiB", bytes >> 10);
}

/// Too little for any RDMA program: a queue pair alone locks some of it, and every buffer has to be locked.
constexpr std::uint64_t kLittleMemlock = std::uint64_t{64} << 20;

}  // namespace

Findings check_slurm(const NodeFacts& facts) {
  if (facts.slurm.configuration.empty())
    return {{Severity::warning, "Slurm does not answer", "`scontrol show config` failed",
             "if Slurm is to run here, see its logs; without an answer its default paths are looked at"}};
  Findings findings{{Severity::ok, fmt::format("Slurm {} answers", value(facts, "SLURM_VERSION")), "", ""}};
  const std::string tasks = value(facts, "TaskPlugin");
  if (tasks.find("affinity") == std::string::npos && tasks.find("cgroup") == std::string::npos)
    findings.push_back({Severity::note, "Slurm binds no task to CPUs", fmt::format("TaskPlugin is {}", tasks),
                        "TaskPlugin=task/affinity,task/cgroup; until then Berth shares out the CPUs of the step"});
  if (value(facts, "ProctrackType") != "proctrack/cgroup")
    findings.push_back({Severity::note, "Slurm may lose processes of a step",
                        fmt::format("ProctrackType is {}", value(facts, "ProctrackType")),
                        "ProctrackType=proctrack/cgroup"});
  for (const char* script : {"Prolog", "Epilog"}) {
    if (value(facts, script) != "(null)" && !value(facts, script).empty()) continue;
    findings.push_back(
        {Severity::note, fmt::format("Slurm runs no {}", script),
         "what a killed step leaves is then repaired by the next step only",
         fmt::format("{}=" BERTH_LIBEXECDIR "/{} in slurm.conf", script, script[0] == 'P' ? "prolog" : "epilog")});
  }
  return findings;
}

Findings check_plugin(const NodeFacts& facts) {
  const SlurmFacts& slurm = facts.slurm;
  const std::string line = "required " BERTH_PLUGIN_PATH;
  if (!slurm.plugstack_is_readable)
    return {{Severity::error, fmt::format("there is no {}", slurm.plugstack_path), "srun then has no option of Berth",
             fmt::format("write it, with the line: {}", line)}};
  if (slurm.plugin_path.empty())
    return {{Severity::error, fmt::format("{} does not name Berth's plugin", slurm.plugstack_path),
             "srun then has no option of Berth", fmt::format("add the line: {}", line)}};
  if (!slurm.plugin_problem.empty())
    return {{Severity::error, fmt::format("the plugin {} cannot be loaded", slurm.plugin_path), slurm.plugin_problem,
             "install Berth on this node, or correct the line in " + slurm.plugstack_path}};
  const unsigned running = parse_version(value(facts, "SLURM_VERSION"));
  if (slurm.built_for && running != 0 && *slurm.built_for >> 8 != running >> 8)
    return {{Severity::error, fmt::format("the plugin is for Slurm {}", version_text(*slurm.built_for)),
             fmt::format("Slurm {} runs here, and refuses it", version_text(running)),
             "build and install Berth with the headers of this Slurm"}};
  return {{Severity::ok, fmt::format("{} is loaded by Slurm", slurm.plugin_path), "", ""}};
}

Findings check_pmix(const NodeFacts& facts) {
  if (facts.slurm.configuration.empty()) return {};  // nobody says where its plugins are
  if (facts.slurm.has_pmix) return {{Severity::ok, "Slurm has a plugin for PMIx", "", ""}};
  return {{Severity::note, "Slurm has no plugin for PMIx", "no mpi_pmix.so is in its PluginDir",
           "install it for srun --mpi=pmix, which Open MPI needs; --mpi=pmi2 works without"}};
}

Findings check_gres(const NodeFacts& facts) {
  if (!facts.policy.policy) return {};
  Findings findings;
  for (const Pool& pool : facts.policy.policy->pools) {
    if (pool.gres.empty()) continue;
    const std::string types = "," + value(facts, "GresTypes") + ",";
    if (!facts.slurm.configuration.empty() && types.find("," + pool.gres + ",") == std::string::npos) {
      findings.push_back({Severity::error, fmt::format("Slurm does not know the generic resource \"{}\"", pool.gres),
                          fmt::format("it is not in GresTypes, and pool \"{}\" needs it", pool.name),
                          "put what `berth gres` prints into slurm.conf and gres.conf"});
      continue;
    }
    try {
      for (const GresLine& line : make_gres_lines(pool, facts.inventory)) {
        std::string files = fmt::format("{}", fmt::join(line.files, ","));
        if (facts.slurm.gres_conf.find("File=" + files) != std::string::npos) continue;
        findings.push_back({Severity::warning,
                            fmt::format("gres.conf is not what `berth gres` prints for pool \"{}\"", pool.name),
                            "Slurm may then give a job one device and Berth another, or refuse",
                            "put the lines of `berth gres` into gres.conf, and restart slurmd"});
        break;
      }
    } catch (const Error&) {
      continue;  // check_pools() says it
    }
  }
  if (findings.empty()) findings.push_back({Severity::ok, "Slurm counts the devices that the policy says", "", ""});
  return findings;
}

Findings check_limits(const NodeFacts& facts) {
  Findings findings;
  const auto& memlock = facts.slurm.memlock;
  std::optional<std::uint64_t> wanted;
  if (facts.policy.policy) wanted = facts.policy.policy->memlock;
  if (memlock && !wanted && *memlock < kLittleMemlock) {
    findings.push_back(
        {Severity::warning, fmt::format("ranks may lock {} of memory only", bytes_text(*memlock)),
         "it is slurmd's limit, and the policy sets none; RDMA then fails with \"cannot allocate memory\"",
         "memlock = \"unlimited\" in [limits] of the policy, or LimitMEMLOCK=infinity for slurmd"});
  }
  const std::string propagated = value(facts, "PropagateResourceLimits");
  if (!wanted && (propagated == "ALL" || propagated.find("MEMLOCK") != std::string::npos) &&
      value(facts, "PropagateResourceLimitsExcept").find("MEMLOCK") == std::string::npos)
    findings.push_back({Severity::note, "ranks have the memlock limit of the host that they were submitted from",
                        fmt::format("PropagateResourceLimits is {}", propagated),
                        "PropagateResourceLimitsExcept=MEMLOCK in slurm.conf, or memlock in [limits] of the policy"});
  if (findings.empty())
    findings.push_back({Severity::ok,
                        wanted    ? fmt::format("ranks may lock {} of memory, says the policy", bytes_text(*wanted))
                        : memlock ? fmt::format("ranks may lock {} of memory", bytes_text(*memlock))
                                  : std::string("no limit could be seen"),
                        "", ""});
  return findings;
}

}  // namespace berth
