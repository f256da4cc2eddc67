// Why a plan is impossible, and what helps. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "launcher/core/plan.hpp"

namespace berth {

std::string ranks_text(std::size_t ranks);             ///< "1 rank", "4 ranks"
std::string devices_text(std::size_t devices);         ///< "1 device", "4 devices"
std::string own_devices_text(const Request& request);  ///< of each rank: "a device", "2 devices"

/// Throws Error{host}: the node has no device of the pool at all.
[[noreturn]] void throw_no_device(const Pool& pool, const Inventory& inventory);

/// Throws Error{busy} if waiting for the holders would help, else Error{host}: `needed` devices are not to be had.
[[noreturn]] void throw_too_few(const PlanInput& input, const Pool& pool, const std::vector<Candidate>& candidates,
                                std::size_t needed);

}  // namespace berth
