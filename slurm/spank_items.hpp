// Typed access to what Slurm tells a SPANK plugin, spank(8).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slurm/spank_headers.hpp"

namespace berth {

/// A step on this node. Readable in every remote callback.
struct SpankJob {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
  std::uint32_t job = 0;
  std::uint32_t step = 0;
  unsigned local_tasks = 0;
  std::vector<unsigned> ranks;  ///< global task number by local task number
};
/// Throws Error{internal} if Slurm refuses an item.
SpankJob read_spank_job(spank_t spank);

/// False for the batch script and for Slurm's own steps (extern, interactive): their step numbers are reserved
/// (SLURM_BATCH_SCRIPT and above in slurm.h).
bool is_user_step(spank_t spank);

/// Local number of the task that a task callback is about.
unsigned read_local_task(spank_t spank);
int read_task_pid(spank_t spank);

/// The environment that the task will be started with.
std::map<std::string, std::string> read_job_environment(spank_t spank);
std::vector<std::string> read_arguments(spank_t spank);

/// Directories of this node that Slurm's PMIx server shares with the tasks of a step: below SlurmdSpoolDir, and below
/// TmpFS (slurm.conf). Not all of them exist for every kind of --mpi.
std::vector<std::string> pmix_directories(const SpankJob& job, const std::string& node);

/// NodeName of this node, from the name of slurmstepd's own socket; the host name where that cannot be told.
std::string read_node_name();

}  // namespace berth
