#include "launcher/core/assignment.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>

#include "launcher/core/convex_flow.hpp"
#include "launcher/core/wide_int.hpp"

namespace berth {
namespace {

using Over = CostLevel::Over;
using Huge = WideInt<32>;
// Multiples of divisors that are larger than this are not used; all levels together must fit into Huge.
constexpr std::size_t kMostBitsOfPairs = 1024;
constexpr std::size_t kMostBitsOfLoads = 256;
constexpr std::uint64_t kRoundedUnits = std::uint64_t{1} << 40U;

std::size_t count_of(const std::vector<std::size_t>& numbers) {
  return numbers.empty() ? 0 : *std::max_element(numbers.begin(), numbers.end()) + 1;
}

/// The least common multiple of all divisors, or 0 if it is too large to be exact.
Huge common_multiple(const std::vector<std::uint64_t>& divisors, std::size_t most_bits) {
  Huge multiple = 1;
  for (const std::uint64_t divisor : divisors) {
    Huge quotient = multiple;
    const std::uint64_t rest = quotient.divide(divisor);
    multiple *= divisor / std::gcd(rest, divisor);
    if (multiple.bit_width() > most_bits) return 0;
  }
  return multiple;
}

/// The costs of all levels as one number each: every level is a digit that is worth more than all later ones together
/// can ever be.
class PackedCosts {
 public:
  explicit PackedCosts(const AssignmentProblem& problem) : problem_(problem) {
    pairs_.resize(problem.rows * problem.columns);
    for (std::size_t level = problem.levels.size(); level-- > 0;) {
      if (matters(level)) pack(problem.levels[level]);
    }
  }

  /// Bits of the largest cost of a whole assignment.
  [[nodiscard]] std::size_t bits() const { return unit_.bit_width(); }
  [[nodiscard]] Huge pair(std::size_t row, std::size_t column) const { return pairs_[row * problem_.columns + column]; }
  [[nodiscard]] Huge square(Over over, std::size_t number) const {
    const std::vector<Huge>& costs = squares_[static_cast<std::size_t>(over)];
    return costs.empty() ? Huge(0) : costs.size() == 1 ? costs.front() : costs[number];
  }

 private:
  /// Whether assignments can differ in this level if they do not in the levels before it. Few digits make short
  /// numbers.
  [[nodiscard]] bool matters(std::size_t level) const {
    const CostLevel& cost = problem_.levels[level];
    const auto is = [&](Over over) { return [over](const CostLevel& other) { return other.over == over; }; };
    const auto end = problem_.levels.begin() + static_cast<std::ptrdiff_t>(level);
    switch (cost.over) {
      case Over::pairs:
        return std::any_of(cost.values.begin(), cost.values.end(), [&](std::uint64_t v) { return v != 0; });
      case Over::devices:
        return std::any_of(problem_.capacity.begin(), problem_.capacity.end(), [](std::size_t c) { return c > 1; });
      case Over::ports: {
        const auto cards = std::find_if(problem_.levels.begin(), end, is(Over::cards));
        if (cards == end || count_of(problem_.card_of) != problem_.card_of.size()) return true;
        for (std::size_t port = 0; port < problem_.card_of.size(); ++port) {
          if (cards->divisors[problem_.card_of[port]] != cost.divisors[port]) return true;
        }
        return false;
      }
      default:
        return true;
    }
  }

  void pack(const CostLevel& level) {
    Huge multiple = common_multiple(level.divisors, level.over == Over::pairs ? kMostBitsOfPairs : kMostBitsOfLoads);
    const bool exact = multiple != Huge(0);
    const auto worth = [&](std::uint64_t value, std::size_t number) {
      Huge cost = exact ? multiple : Huge(kRoundedUnits);
      if (!exact) cost *= value;
      if (!level.divisors.empty()) cost.divide(level.divisors[number]);
      return exact ? cost * value : cost;
    };
    const std::size_t units = problem_.rows_of.size() * problem_.devices_per_rank;
    Huge largest = 0;
    if (level.over == Over::pairs) {
      std::map<std::pair<std::uint64_t, std::uint64_t>, Huge> known;  // by value and divisor: they repeat
      for (std::size_t row = 0; row < problem_.rows; ++row) {
        const std::uint64_t divisor = level.divisors.empty() ? 1 : level.divisors[row];
        for (std::size_t column = 0; column < problem_.columns; ++column) {
          const std::uint64_t value = level.values[row * problem_.columns + column];
          if (value == 0) continue;
          const auto [entry, is_new] = known.try_emplace({value, divisor});
          if (is_new) {
            const Huge cost = worth(value, row);
            largest = std::max(largest, cost);
            entry->second = cost * unit_;
          }
          pairs_[row * problem_.columns + column] += entry->second;
        }
      }
      unit_ = unit_ * (largest * units + 1);
      return;
    }
    std::vector<Huge>& costs = squares_[static_cast<std::size_t>(level.over)];
    for (std::size_t number = 0; number < std::max<std::size_t>(level.divisors.size(), 1); ++number) {
      const Huge cost = worth(1, number);
      largest = std::max(largest, cost);
      costs.push_back(cost * unit_);
    }
    unit_ = unit_ * (largest * units * units + 1);
  }

  const AssignmentProblem& problem_;
  Huge unit_ = 1;
  std::vector<Huge> pairs_;
  std::array<std::vector<Huge>, 7> squares_;  ///< by Over; one entry: the same for all; none: 0
};

template <class Cost>
Cost narrow(const Huge& cost) {
  if constexpr (std::is_same_v<Cost, Int128>) {
    return cost.to_int128();
  } else {
    return cost.template narrow<Cost::kBits / 64>();
  }
}

/// ranks → row [→ card and port as this rank sees it] → column → device → port → card → sink
/// Ranks that choose among the same rows are one node. An unserved rank is on a column of no device.
template <class Cost>
class Network {
 public:
  Network(const AssignmentProblem& problem, const PackedCosts& costs) : problem_(problem), costs_(costs) {
    add_devices();
    if (problem.devices_per_rank == 1) {
      add_rows();
    } else {
      add_single_ranks();
    }
    for (std::size_t rank = 0; rank < problem.rows_of.size(); ++rank) {
      for (std::size_t unit = 0; unit < problem.devices_per_rank; ++unit) flow_.augment(node_of_[rank], sink_);
    }
  }

  [[nodiscard]] std::vector<std::size_t> row_loads() const {
    std::vector<std::size_t> loads(problem_.rows, 0);
    for (const auto& [row, arc] : row_arcs_) loads[row] += flow_.flow(arc);
    return loads;
  }

  /// Ranks choose in turn, each the earliest device that still leaves a cheapest assignment.
  std::vector<std::vector<std::size_t>> choose_earliest() {
    flow_.finish();
    std::vector<std::vector<std::size_t>> assigned(problem_.rows_of.size());
    std::vector<bool> blocked(gates_.size() * (devices() + 1), false);
    std::vector<char> origins;
    for (std::size_t rank = 0; rank < assigned.size(); ++rank) {
      for (std::size_t unit = 0; unit < problem_.devices_per_rank; ++unit) {
        // Where nothing but the way over a row lies between rank and column, one search tells which columns it can
        // have.
        if (problem_.devices_per_rank == 1) flow_.find_tight_origins(node_of_[rank], origins);
        claim_earliest(rank, origins, blocked, assigned[rank]);
      }
      std::sort(assigned[rank].begin(), assigned[rank].end());
    }
    return assigned;
  }

 private:
  using Index = typename ConvexFlow<Cost>::Index;

  static constexpr std::size_t kAnyNumber = static_cast<std::size_t>(-1);

  /// A way from a rank's node to the columns: over a row, or for single ranks over the card and port of each column.
  struct Gate {
    std::size_t row = 0;
    std::vector<std::vector<Index>> arcs;  ///< per column: those that lead to it
  };

  [[nodiscard]] std::size_t devices() const { return problem_.column_of.size(); }
  Cost square(Over over, std::size_t number) const { return narrow<Cost>(costs_.square(over, number)); }
  Cost pair(std::size_t row, std::size_t column) const {
    return column == problem_.columns ? Cost(0) : narrow<Cost>(costs_.pair(row, column));
  }

  void add_devices() {
    sink_ = flow_.add_node();
    const std::size_t units = problem_.rows_of.size() * problem_.devices_per_rank;
    std::vector<Index> cards;
    for (std::size_t card = 0; card < count_of(problem_.card_of); ++card) {
      cards.push_back(flow_.add_node());
      flow_.add_arc(cards.back(), sink_, units, Cost(0), square(Over::cards, card));
    }
    std::vector<Index> ports;
    for (std::size_t port = 0; port < problem_.card_of.size(); ++port) {
      ports.push_back(flow_.add_node());
      flow_.add_arc(ports.back(), cards[problem_.card_of[port]], units, Cost(0), square(Over::ports, port));
    }
    for (std::size_t column = 0; column <= problem_.columns; ++column) columns_.push_back(flow_.add_node());
    std::size_t room = 0;
    for (std::size_t device = 0; device < devices(); ++device) {
      device_arcs_.push_back(flow_.add_arc(columns_[problem_.column_of[device]], ports[problem_.port_of[device]],
                                           problem_.capacity[device], Cost(0), square(Over::devices, device)));
      room += std::min(problem_.capacity[device], units);
    }
    device_arcs_.push_back(flow_.add_arc(columns_.back(), sink_, units - std::min(units, room), Cost(0), Cost(0)));
  }

  void add_rows() {
    std::map<std::vector<std::size_t>, std::pair<Index, std::vector<std::pair<std::size_t, Index>>>> known;
    for (const std::vector<std::size_t>& rows : problem_.rows_of) {
      const auto [group, is_new] = known.try_emplace(rows);
      if (is_new) {
        group->second.first = flow_.add_node();
        for (const std::size_t row : rows) {
          const std::size_t room = problem_.row_room.empty() ? kAnyNumber : problem_.row_room[row];
          const Index node = flow_.add_node();
          const Index arc = flow_.add_arc(group->second.first, node, room, Cost(0), square(Over::rows, row));
          row_arcs_.emplace_back(row, arc);
          group->second.second.emplace_back(gates_.size(), arc);
          Gate gate{row, {}};
          for (std::size_t column = 0; column <= problem_.columns; ++column) {
            gate.arcs.push_back({arc, flow_.add_arc(node, columns_[column], kAnyNumber, pair(row, column), Cost(0))});
          }
          gates_.push_back(std::move(gate));
          flow_.enter(node);
        }
        flow_.enter(group->second.first);
      }
      node_of_.push_back(group->second.first);
      gates_of_.push_back({});
      for (const auto& [gate, arc] : group->second.second) gates_of_.back().push_back(gate);
    }
  }

  void add_single_ranks() {
    std::vector<std::size_t> port_of(problem_.columns, 0);
    for (std::size_t device = 0; device < devices(); ++device)
      port_of[problem_.column_of[device]] = problem_.port_of[device];
    const std::size_t most = problem_.devices_per_rank;
    for (const std::vector<std::size_t>& rows : problem_.rows_of) {
      Gate gate{rows.front(), {}};
      node_of_.push_back(flow_.add_node());
      std::vector<std::pair<Index, Index>> cards(count_of(problem_.card_of));  // node, arc
      for (auto& [node, arc] : cards) {
        node = flow_.add_node();
        arc = flow_.add_arc(node_of_.back(), node, most, Cost(0), square(Over::own_cards, 0));
      }
      std::vector<std::pair<Index, Index>> ports;
      for (const std::size_t card : problem_.card_of) {
        const Index node = flow_.add_node();
        ports.emplace_back(node, flow_.add_arc(cards[card].first, node, most, Cost(0), square(Over::own_ports, 0)));
      }
      for (std::size_t column = 0; column < problem_.columns; ++column) {
        const auto [node, arc] = ports[port_of[column]];
        gate.arcs.push_back({cards[problem_.card_of[port_of[column]]].second, arc,
                             flow_.add_arc(node, columns_[column], most, pair(gate.row, column), Cost(0))});
      }
      gate.arcs.push_back({flow_.add_arc(node_of_.back(), columns_.back(), most, Cost(0), Cost(0))});
      gates_of_.push_back({gates_.size()});
      gates_.push_back(std::move(gate));
      for (const auto& [node, arc] : ports) flow_.enter(node);
      for (const auto& [node, arc] : cards) flow_.enter(node);
      flow_.enter(node_of_.back());
    }
  }

  /// What cannot be claimed by one rank cannot be claimed by a later one of the same gate either: claims only add up.
  void claim_earliest(std::size_t rank, const std::vector<char>& origins, std::vector<bool>& blocked,
                      std::vector<std::size_t>& assigned) {
    for (std::size_t device = 0; device <= devices(); ++device) {
      const std::size_t column = device == devices() ? problem_.columns : problem_.column_of[device];
      if ((!origins.empty() && origins[columns_[column]] == 0) || flow_.is_claimed_up(device_arcs_[device])) continue;
      for (const std::size_t gate : gates_of_[rank]) {
        const std::size_t way = gate * (devices() + 1) + device;
        if (blocked[way]) continue;
        if (!claim(gates_[gate].arcs[column], device_arcs_[device])) {
          blocked[way] = true;
          continue;
        }
        if (device < devices()) assigned.push_back(device);
        return;
      }
    }
  }

  bool claim(const std::vector<Index>& arcs, Index device) {
    std::size_t claimed = 0;
    while (claimed < arcs.size() && flow_.claim(arcs[claimed])) ++claimed;
    if (claimed == arcs.size() && flow_.claim(device)) return true;
    while (claimed > 0) flow_.unclaim(arcs[--claimed]);
    return false;
  }

  const AssignmentProblem& problem_;
  const PackedCosts& costs_;
  ConvexFlow<Cost> flow_;
  Index sink_ = 0;
  std::vector<Index> columns_;      ///< nodes; the last one stands for no device
  std::vector<Index> device_arcs_;  ///< column → port; the last one for no device
  std::vector<Gate> gates_;
  std::vector<std::pair<std::size_t, Index>> row_arcs_;  ///< row, and the arc that leads to it
  std::vector<Index> node_of_;                           ///< per rank
  std::vector<std::vector<std::size_t>> gates_of_;       ///< per rank
};

/// Calls `use` with the network of the problem, computed with numbers that are long enough.
template <class Use>
auto with_network(const AssignmentProblem& problem, const Use& use) {
  const PackedCosts costs(problem);
  // A path changes the load of each thing by one at most and moves each row's ranks once, so that its cost is of the
  // order of a whole assignment's: that times the rows and ports per rank, if there are more of these than ranks.
  const std::size_t units = std::max<std::size_t>(problem.rows_of.size() * problem.devices_per_rank, 1);
  const std::size_t things = problem.rows + problem.columns + problem.column_of.size();
  const std::size_t bits = costs.bits() + static_cast<std::size_t>(std::bit_width(things / units)) + 8;
  if (bits < 127) return use(Network<Int128>(problem, costs));
  if (bits < WideInt<4>::kBits) return use(Network<WideInt<4>>(problem, costs));
  if (bits < WideInt<8>::kBits) return use(Network<WideInt<8>>(problem, costs));
  return use(Network<Huge>(problem, costs));
}

}  // namespace

std::vector<std::vector<std::size_t>> assign_devices(const AssignmentProblem& problem) {
  return with_network(problem, [](auto&& network) { return network.choose_earliest(); });
}

std::vector<std::size_t> choose_row_loads(const AssignmentProblem& problem) {
  return with_network(problem, [](auto&& network) { return network.row_loads(); });
}

}  // namespace berth
