// The cheapest assignment of ranks to devices that share ports: a min-cost flow with lexicographic costs. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace berth {

/// Compared by the first entry, then by the second, and so on: no amount of a later one outweighs an earlier one.
using Cost = std::array<std::int64_t, 7>;

struct AssignmentProblem {
  std::vector<std::vector<Cost>> costs;  ///< of each rank (outer) on each device (inner)
  std::vector<std::size_t> port_of;      ///< port of each device, numbered from 0
  std::vector<Cost> port_costs;          ///< of each port, times the square of the number of its ranks
  Cost device_cost{};                    ///< of every device, times the square of the number of its ranks
  std::size_t capacity = 1;              ///< ranks per device at most; devices × capacity must be at least the ranks
};

/// The device of each rank: no other assignment has a smaller sum of costs; of the equally cheap ones the earlier ranks
/// tend to have the earlier devices, and the same problem has always the same answer.
/// Ranks are added one by one, each along a cheapest augmenting path (which may move earlier ranks).
std::vector<std::size_t> assign_devices(const AssignmentProblem& problem);

}  // namespace berth
