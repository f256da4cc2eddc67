// Slurm's C headers, made fit for C++: spank.h declares the callbacks before its own extern "C", and SPANK_PLUGIN
// defines constants that C++ would keep internal.
#pragma once

extern "C" {
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>
}
