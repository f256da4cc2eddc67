// Which GPU each rank computes on, as far as the request says: devices are then chosen near it. Pure.
#pragma once

#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/request.hpp"

namespace berth {

/// One GPU of `inventory` per rank; empty if none was asked for. `allowed`: the CPUs of each rank. "nearest" means one
/// of the nearest to these, the one that fewest ranks before have. Throws Error{usage} where the node has no such GPU.
std::vector<const Gpu*> choose_rank_gpus(const Request& request, const Inventory& inventory,
                                         const std::vector<CpuSet>& allowed);

}  // namespace berth
