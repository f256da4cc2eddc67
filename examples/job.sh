#!/bin/bash
# A batch script: it runs on the host, its srun steps inside the image with a network device per rank.
#
#   sbatch --rdma-container=/opt/images/app.sqsh examples/job.sh
#
#SBATCH --job-name=solver
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:10:00
set -euo pipefail

# What each rank gets: node, device, network namespace, address, CPUs.
srun --mpi=pmix berth-report

# The work itself. --rdma-verbose says why each rank got its device, and how long every phase took.
srun --mpi=pmix --rdma-verbose heat

# A step that wants nothing of it.
srun --ntasks=1 --rdma-container= hostname
