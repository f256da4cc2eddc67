// What `berth doctor` reads about Slurm.
#pragma once

#include "launcher/doctor/facts.hpp"

namespace berth {

/// Asks scontrol and reads the files that it names; SLURM_CONF of the caller's environment counts unless it is root.
SlurmFacts read_slurm_facts();

}  // namespace berth
