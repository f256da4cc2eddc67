// The plugin's options: plugstack.conf arguments of the site, and --rdma-… of the user.
#pragma once

#include <string>
#include <string_view>

#include "launcher/core/request.hpp"
#include "slurm/spank_headers.hpp"

namespace berth {

/// Arguments in plugstack.conf; the file is the site's, so they are trusted.
struct SiteOptions {
  std::string policy = "/etc/berth/policy.toml";
  std::string broker;  ///< path of berth-broker
  std::string state = "/run/berth";
};
/// Throws Error{usage} for an unknown argument.
SiteOptions parse_site_options(int argc, char** argv);

/// Registers one --rdma-… option per entry of option_specs(). Values are collected in `request`, which must outlive the
/// plugin. A wrong value is reported at once and makes srun, sbatch or salloc end before anything is submitted.
void register_options(spank_t spank, Request& request);

/// The variable in which Slurm hands option --rdma-NAME of an sbatch or salloc to the sruns in it, spank(8); empty: not
/// given.
std::string slurm_variable(std::string_view name);

/// In srun, sbatch and salloc: lets BERTH_NAME stand for --rdma-NAME, as if an enclosing sbatch or
/// salloc had been given it. A real option wins over both.
void adopt_environment_options();

/// Whether this srun, sbatch or salloc was asked for a container; usable before Slurm has parsed the options.
bool container_is_asked_for();

}  // namespace berth
