// The cheapest assignment of ranks to devices that share ports and cards: a min-cost flow with lexicographic costs.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace berth {

/// One level of the objective. Levels count in order: no amount of a later one outweighs an earlier one.
struct CostLevel {
  /// pairs: a rank in a row costs something on a device of a column; the others: load² of each device, port, card, row,
  /// or (own_…) of each card and port by the devices of one rank.
  enum class Over { pairs, devices, ports, cards, rows, own_cards, own_ports };
  Over over = Over::pairs;
  std::vector<std::uint64_t> values;    ///< pairs only: of row × columns + column
  std::vector<std::uint64_t> divisors;  ///< per row (pairs) or thing (else), not 0: costs are divided; empty: by 1
};

/// Ranks that cost the same on every device share a row, devices that cost every rank the same share a column.
struct AssignmentProblem {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<std::vector<std::size_t>> rows_of;  ///< per rank: the row, or those among which one is to be chosen
  std::vector<std::size_t> row_room;              ///< ranks per row at most; empty: any number
  std::vector<std::size_t> column_of;             ///< per device; devices of one column have one port
  std::vector<std::size_t> capacity;              ///< per device: ranks at most
  std::vector<std::size_t> port_of;               ///< per device, numbered from 0
  std::vector<std::size_t> card_of;               ///< per port, numbered from 0
  std::size_t devices_per_rank = 1;               ///< more than 1: of devices with capacity 1, and ranks with one row
  std::vector<CostLevel> levels;                  ///< most important first
};

/// The devices of each rank, ascending; fewer than wanted only where all capacity is used up. Ranks with one row each.
/// As many ranks are served as there is capacity; no other assignment that serves as many has a smaller cost; of the
/// equally cheap ones, it is that whose list of devices by rank is lexicographically the smallest (an unserved rank
/// counts as a device behind all others). Costs are compared exactly as long as the divisors of a level have a common
/// multiple of at most 1024 bits (any masks of up to some 700 CPUs), beyond that to 2^-40.
std::vector<std::vector<std::size_t>> assign_devices(const AssignmentProblem& problem);

/// How many ranks choose each row in a cheapest assignment; the rows must have room for all of them.
std::vector<std::size_t> choose_row_loads(const AssignmentProblem& problem);

}  // namespace berth
