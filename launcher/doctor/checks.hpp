// The checks of `berth doctor`: pure functions from what was read to what is to be said.
//
// A new check is a function `Findings check_NAME(const NodeFacts&)` in the file of its subject, and a line in kChecks.
// It says one `ok` where all is well, so that people see what was looked at.
#pragma once

#include <array>
#include <string_view>

#include "launcher/doctor/facts.hpp"
#include "launcher/doctor/finding.hpp"

namespace berth {

Findings check_view(const NodeFacts& facts);
Findings check_kernel(const NodeFacts& facts);
Findings check_modules(const NodeFacts& facts);
Findings check_iommu(const NodeFacts& facts);
Findings check_rdma(const NodeFacts& facts);
Findings check_onload(const NodeFacts& facts);
Findings check_policy(const NodeFacts& facts);
Findings check_pools(const NodeFacts& facts);
Findings check_functions(const NodeFacts& facts);
Findings check_usnic(const NodeFacts& facts);
Findings check_irqs(const NodeFacts& facts);
Findings check_images(const NodeFacts& facts);
Findings check_slurm(const NodeFacts& facts);
Findings check_plugin(const NodeFacts& facts);
Findings check_pmix(const NodeFacts& facts);
Findings check_gres(const NodeFacts& facts);
Findings check_limits(const NodeFacts& facts);
Findings check_leases(const NodeFacts& facts);
Findings check_run(const NodeFacts& facts);

struct Check {
  std::string_view name;  ///< stable: monitoring may look for it
  Findings (*judge)(const NodeFacts&);
};

inline constexpr std::array kChecks = {
    Check{"view", check_view},     Check{"kernel", check_kernel}, Check{"modules", check_modules},
    Check{"iommu", check_iommu},   Check{"rdma", check_rdma},     Check{"usnic", check_usnic},
    Check{"onload", check_onload}, Check{"policy", check_policy}, Check{"pools", check_pools},
    Check{"vfs", check_functions}, Check{"irqs", check_irqs},     Check{"images", check_images},
    Check{"slurm", check_slurm},   Check{"plugin", check_plugin}, Check{"pmix", check_pmix},
    Check{"gres", check_gres},     Check{"limits", check_limits}, Check{"leases", check_leases},
    Check{"run", check_run},
};

}  // namespace berth
