// Which CPUs the interrupts of a leased device go to. Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "launcher/core/inventory.hpp"

namespace berth {

/// A CPU out of `cpus`, which are online, for each of `count` interrupts: other cores first, then other hardware
/// threads, then from the beginning. Empty if `cpus` is.
///
/// One CPU each, because it is up to the platform which one of several it takes: some take the first for all.
std::vector<unsigned> choose_irq_cpus(const Topology& topology, const CpuSet& cpus, std::size_t count);

}  // namespace berth
