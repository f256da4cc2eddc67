// mpirun and mpiexec in a job start a daemon on each of its nodes by srun, and these start the ranks, not Slurm.
#pragma once

#include <string>

#include "slurm/spank_headers.hpp"

namespace berth {

/// Whether the step's command is such a daemon, which must see the host.
bool is_launcher_daemon(spank_t spank);

/// In an srun with the container `image` asked for, before it has made a step: false if it is to start such daemons and
/// nothing says that their ranks will be in one, which is the launcher's command line with `berth run` in it. Says so,
/// on the launcher's standard error as well where the launcher hides what its srun says, and ends a launcher that would
/// wait for its daemons for ever. Throws Error{host}.
bool accept_launcher(const std::string& image);

}  // namespace berth
