// What placements cost: the levels of the objective (placement.hpp), as rows and columns of the flow. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "launcher/core/assignment.hpp"
#include "launcher/core/placement.hpp"

namespace berth {

/// Room of each device; nullopt if there is not enough and the policy does not allow that.
std::optional<std::vector<std::size_t>> choose_capacities(const PlacementProblem& problem);

/// Collects rows, then makes the assignment problem. `problem` must outlive it.
class PlacementCosts {
 public:
  explicit PlacementCosts(const PlacementProblem& problem);

  /// The row of ranks with these CPUs and this GPU, which it shares with all others that cost the same.
  std::size_t add_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu);
  /// A row of its own.
  std::size_t add_own_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu);
  [[nodiscard]] std::size_t rows() const { return rows_.size(); }

  [[nodiscard]] AssignmentProblem make_assignment(std::vector<std::vector<std::size_t>> rows_of,
                                                  const std::vector<std::size_t>& capacities) const;
  [[nodiscard]] std::vector<PlacementLevel> measure(const std::vector<PlacementChoice>& choices) const;

  [[nodiscard]] const Locality& locality() const { return locality_; }
  [[nodiscard]] const Locality::Device& place(std::size_t device) const { return places_[place_of_[device]]; }
  [[nodiscard]] std::size_t port_of(std::size_t device) const { return port_of_[device]; }

 private:
  struct Pair {
    std::optional<PciPath> path;
    Nearness nearness = Nearness::local;
    std::uint64_t distance = 0;
    auto operator<=>(const Pair&) const = default;
  };
  struct Row {
    std::vector<Pair> pairs;    ///< per column
    std::uint64_t divisor = 1;  ///< of the distances
    auto operator<=>(const Row&) const = default;
  };

  Row make_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu) const;
  void number_ports();
  void number_columns();

  const PlacementProblem& problem_;
  Locality locality_;
  std::vector<Locality::Device> places_;
  std::vector<std::size_t> place_of_;        ///< per device: entry of places_
  std::vector<std::size_t> port_of_;         ///< per device
  std::vector<std::size_t> card_of_;         ///< per port
  std::vector<std::uint64_t> port_speeds_;   ///< never 0
  std::vector<std::uint64_t> card_speeds_;   ///< never 0
  std::vector<std::size_t> column_of_;       ///< per device
  std::vector<std::size_t> column_devices_;  ///< per column: its first device
  std::vector<Row> rows_;
  std::map<Row, std::size_t> known_rows_;  ///< those of add_row()
};

}  // namespace berth
