// What an MPI launcher tells the ranks that it starts, by environment variables. Hints all of it: it says which ranks
// belong together, never who asks or what is allowed.
#pragma once

#include <map>
#include <string>

namespace berth {

struct LaunchContext {
  std::string launcher;     ///< "mpirun", "mpiexec", "srun"; empty: none, a rank of its own
  unsigned rank = 0;        ///< in the whole run
  unsigned local_rank = 0;  ///< on this node, from 0
  unsigned local_size = 1;  ///< ranks on this node
  std::string run;          ///< the launcher's name for this run; empty: it gives none
  std::string pmix_uri;     ///< where the rank's PMIx server listens; empty: no PMIx
  std::string pmi_fd;       ///< number of an inherited descriptor that leads to the launcher (PMI-1); empty: none
  bool operator==(const LaunchContext&) const = default;
};

/// Most ranks of one node that Berth plans for.
constexpr unsigned kMostLocalRanks = 4096;

/// Knows Open MPI's mpirun (4 and 5), MPICH's and Intel's Hydra, PALS, PRRTE's prterun, and Slurm's srun, in this
/// order: mpirun inside a job inherits Slurm's variables. Sources: Open MPI's mpirun(1) (environment variables),
/// MPICH's "Using the Hydra Process Manager", srun(1). Throws Error{usage} if the variables of a launcher contradict
/// each other.
LaunchContext parse_launch_context(const std::map<std::string, std::string>& environment);

/// Where the PMIx server of this process listens; empty: it has none.
std::string find_pmix_server(const std::map<std::string, std::string>& environment);

}  // namespace berth
