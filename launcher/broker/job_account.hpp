// The account that a Slurm job is charged to. slurmstepd does not tell its plugins, and SLURM_JOB_ACCOUNT in the job's
// environment is the user's to forge, so slurmctld is asked; only where the policy has rules about accounts.
#pragma once

#include <cstdint>
#include <string>

namespace berth {

/// Runs `scontrol show job` with a fixed environment; `slurm_conf` is the path of slurm.conf, "" for Slurm's default.
/// Throws Error{host} if scontrol cannot be run or does not answer in ten seconds.
std::string read_job_account(std::uint32_t job, const std::string& slurm_conf);

/// The value of "Account=" in the output of `scontrol --oneliner show job`; "" if there is none.
std::string parse_job_account(const std::string& line);

}  // namespace berth
