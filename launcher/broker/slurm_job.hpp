// What only slurmctld knows about a job: the account that it is charged to, and which generic resources and CPUs it has
// on this node. slurmstepd does not tell its plugins, and the job's environment is the user's to forge. Asked only
// where the policy wants to know, because every node of the step asks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/core/gres.hpp"

namespace berth {

struct SlurmJob {
  std::string account;  ///< may be empty
  std::vector<GresGrant> gres;
  CpuSet cpus;                    ///< as Slurm numbers them, see choose_linux_cpus(); empty: none on this node
  unsigned threads_per_core = 0;  ///< that Slurm counts; 0: it does not know the node
};

/// Runs berth-slurm-job, which is linked to Slurm's library: what it answers has fields, where a user's job name could
/// forge those of `scontrol show job`. `node` is Slurm's name of the node, `slurm_conf` the path of slurm.conf, "" for
/// Slurm's default. Throws Error{host} if it does not answer in ten seconds.
SlurmJob read_slurm_job(std::uint32_t job, const std::string& node, const std::string& slurm_conf);

/// The answer of berth-slurm-job. Throws Error{host}.
SlurmJob parse_slurm_job(const std::string& text);

}  // namespace berth
