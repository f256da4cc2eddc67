#include "launcher/core/placement_costs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

namespace berth {
namespace {

using Over = CostLevel::Over;

struct PathLevel {
  PciPath path;
  std::string_view name;
};
constexpr std::array<PathLevel, 4> kPathLevels{{{PciPath::system, "gpu SYS"},
                                                {PciPath::numa_node, "gpu NODE"},
                                                {PciPath::host_bridge, "gpu PHB"},
                                                {PciPath::switches, "gpu PXB"}}};
struct NearnessLevel {
  Nearness nearness;
  std::string_view name;
};
constexpr std::array<NearnessLevel, 3> kNearnessLevels{
    {{Nearness::remote, "remote"}, {Nearness::package, "package"}, {Nearness::numa_node, "numa"}}};

/// Puts the parts of the objective in the order that is asked for.
template <typename T>
std::vector<T> in_order(PlacementOrder order, std::vector<T> near, std::vector<T> load) {
  if (order == PlacementOrder::balance) std::swap(near, load);
  for (T& part : load) near.push_back(std::move(part));
  return near;
}

}  // namespace

std::optional<std::vector<std::size_t>> choose_capacities(const PlacementProblem& problem) {
  const std::size_t wanted = problem.ranks.size() * problem.devices_per_rank;
  const bool may_share = problem.devices_per_rank == 1;
  std::vector<std::size_t> capacities;
  std::size_t room = 0;
  for (const PlacementDevice& device : problem.devices) {
    capacities.push_back(may_share ? device.capacity : std::min<std::size_t>(device.capacity, 1));
    room += std::min(capacities.back(), wanted);
  }
  if (room >= wanted || problem.shortage == Shortage::some) return capacities;
  if (problem.shortage == Shortage::fail || !may_share || capacities.empty()) return std::nullopt;
  const std::size_t even = (wanted + capacities.size() - 1) / capacities.size();
  for (std::size_t& capacity : capacities) capacity = std::max(capacity, even);
  return capacities;
}

PlacementCosts::PlacementCosts(const PlacementProblem& problem) : problem_(problem), locality_(problem.topology) {
  std::vector<const CpuSet*> known;
  for (const PlacementDevice& device : problem.devices) {
    const auto same =
        std::find_if(known.begin(), known.end(), [&](const CpuSet* k) { return *k == device.local_cpus; });
    place_of_.push_back(static_cast<std::size_t>(same - known.begin()));
    if (same != known.end()) continue;
    known.push_back(&device.local_cpus);
    places_.push_back(locality_.locate(device.local_cpus));
  }
  number_ports();
  number_columns();
}

void PlacementCosts::number_ports() {
  std::uint64_t slowest = 0;
  for (const PlacementDevice& device : problem_.devices) {
    if (device.speed > 0 && (slowest == 0 || device.speed < slowest)) slowest = device.speed;
  }
  std::map<std::string_view, std::size_t> ports;
  std::map<std::string_view, std::size_t> cards;
  for (const PlacementDevice& device : problem_.devices) {
    // A speed that is unknown counts as the slowest known one.
    const std::uint64_t speed = device.speed > 0 ? device.speed : std::max<std::uint64_t>(slowest, 1);
    const auto [port, is_new] = ports.emplace(device.port, ports.size());
    port_of_.push_back(port->second);
    if (!is_new) continue;
    port_speeds_.push_back(speed);
    const auto [card, is_new_card] = cards.emplace(device.card.empty() ? device.port : device.card, cards.size());
    card_of_.push_back(card->second);
    if (is_new_card) card_speeds_.push_back(0);
  }
  for (std::size_t device = 0; device < port_of_.size(); ++device) {
    std::uint64_t& card_speed = card_speeds_[card_of_[port_of_[device]]];
    card_speed = std::max({card_speed, port_speeds_[port_of_[device]], problem_.devices[device].speed});
  }
}

void PlacementCosts::number_columns() {
  const bool with_gpus = std::any_of(problem_.ranks.begin(), problem_.ranks.end(),
                                     [](const PlacementRank& r) { return r.gpu.has_value(); });
  std::map<std::tuple<std::size_t, std::size_t, std::string>, std::size_t> known;
  for (std::size_t device = 0; device < problem_.devices.size(); ++device) {
    const PciLocation& location = problem_.devices[device].location;
    std::string path;
    if (with_gpus) {
      path = fmt::format("{} {} {}", location.host_bridge, fmt::join(location.bridges, " "),
                         to_string(location.local_cpus));
      // Several functions may be one as far as paths go, unless one of them is a rank's GPU itself.
      for (const PlacementRank& rank : problem_.ranks) {
        if (rank.gpu && rank.gpu->function == location.function) path = location.function;
      }
    }
    const auto [column, is_new] = known.emplace(std::tuple(place_of_[device], port_of_[device], path), known.size());
    column_of_.push_back(column->second);
    if (is_new) column_devices_.push_back(device);
  }
}

PlacementCosts::Row PlacementCosts::make_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu) const {
  std::vector<Pair> by_place;
  std::uint64_t divisor = std::max(1U, (cpus & problem_.topology.cpus).count());
  std::uint64_t common = divisor;
  for (const Locality::Device& place : places_) {
    by_place.push_back({{}, locality_.nearness(cpus, place), locality_.distance(cpus, place)});
    common = std::gcd(common, by_place.back().distance);
  }
  Row row{{}, divisor / common};
  for (const std::size_t device : column_devices_) {
    row.pairs.push_back(by_place[place_of_[device]]);
    row.pairs.back().distance /= common;
    if (gpu) row.pairs.back().path = locality_.path(*gpu, problem_.devices[device].location);
  }
  return row;
}

std::size_t PlacementCosts::add_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu) {
  const auto [known, is_new] = known_rows_.emplace(make_row(cpus, gpu), rows_.size());
  if (is_new) rows_.push_back(known->first);
  return known->second;
}

std::size_t PlacementCosts::add_own_row(const CpuSet& cpus, const std::optional<PciLocation>& gpu) {
  rows_.push_back(make_row(cpus, gpu));
  return rows_.size() - 1;
}

AssignmentProblem PlacementCosts::make_assignment(std::vector<std::vector<std::size_t>> rows_of,
                                                  const std::vector<std::size_t>& capacities) const {
  AssignmentProblem assignment;
  assignment.rows = rows_.size();
  assignment.columns = column_devices_.size();
  assignment.rows_of = std::move(rows_of);
  assignment.column_of = column_of_;
  assignment.capacity = capacities;
  assignment.port_of = port_of_;
  assignment.card_of = card_of_;
  assignment.devices_per_rank = problem_.devices_per_rank;

  const auto pairs = [&](const auto& value) {
    CostLevel level;
    for (const Row& row : rows_) {
      for (const Pair& pair : row.pairs) level.values.push_back(value(pair));
    }
    return level;
  };
  std::vector<CostLevel> near;
  for (const PathLevel& path : kPathLevels)
    near.push_back(pairs([&](const Pair& pair) { return std::uint64_t{pair.path == path.path}; }));
  for (const NearnessLevel& nearness : kNearnessLevels)
    near.push_back(pairs([&](const Pair& pair) { return std::uint64_t{pair.nearness == nearness.nearness}; }));
  near.push_back(pairs([](const Pair& pair) { return pair.distance; }));
  for (const Row& row : rows_) near.back().divisors.push_back(row.divisor);

  assignment.levels =
      in_order<CostLevel>(problem_.order, std::move(near),
                          {{Over::cards, {}, card_speeds_}, {Over::ports, {}, port_speeds_}, {Over::devices, {}, {}}});
  if (problem_.devices_per_rank > 1)
    assignment.levels.insert(assignment.levels.begin(), {{Over::own_cards, {}, {}}, {Over::own_ports, {}, {}}});
  return assignment;
}

std::vector<PlacementLevel> PlacementCosts::measure(const std::vector<PlacementChoice>& choices) const {
  std::vector<PlacementLevel> first{{"unserved", 0}};
  std::vector<PlacementLevel> near;
  for (const PathLevel& path : kPathLevels) near.push_back({path.name, 0});
  for (const NearnessLevel& nearness : kNearnessLevels) near.push_back({nearness.name, 0});
  PlacementLevel distance{"distance", 0};
  std::vector<double> device_load(problem_.devices.size(), 0);
  std::vector<double> port_load(port_speeds_.size(), 0);
  std::vector<double> card_load(card_speeds_.size(), 0);
  PlacementLevel same_card{"same card", 0};
  PlacementLevel same_port{"same port", 0};
  for (std::size_t rank = 0; rank < choices.size(); ++rank) {
    const PlacementChoice& choice = choices[rank];
    if (choice.devices.size() < problem_.devices_per_rank) ++first.front().value;
    std::map<std::size_t, double> own_cards;
    std::map<std::size_t, double> own_ports;
    for (const std::size_t device : choice.devices) {
      const auto& gpu = problem_.ranks[rank].gpu;
      const auto path = gpu ? std::optional(locality_.path(*gpu, problem_.devices[device].location)) : std::nullopt;
      const Nearness nearness = locality_.nearness(choice.cpus, place(device));
      for (std::size_t i = 0; i < kPathLevels.size(); ++i) near[i].value += path == kPathLevels[i].path ? 1 : 0;
      for (std::size_t i = 0; i < kNearnessLevels.size(); ++i)
        near[kPathLevels.size() + i].value += nearness == kNearnessLevels[i].nearness ? 1 : 0;
      const unsigned cpus = std::max(1U, (choice.cpus & problem_.topology.cpus).count());
      distance.value += static_cast<double>(locality_.distance(choice.cpus, place(device))) / cpus;
      ++device_load[device];
      ++port_load[port_of_[device]];
      ++card_load[card_of_[port_of_[device]]];
      same_card.value += own_cards[card_of_[port_of_[device]]]++;
      same_port.value += own_ports[port_of_[device]]++;
    }
  }
  distance.value /= static_cast<double>(std::max<std::size_t>(choices.size(), 1));
  near.push_back(distance);

  const auto squares = [](const std::vector<double>& load, const std::vector<std::uint64_t>& speeds) {
    const std::uint64_t fastest = speeds.empty() ? 1 : *std::max_element(speeds.begin(), speeds.end());
    double sum = 0;
    for (std::size_t i = 0; i < load.size(); ++i)
      sum += load[i] * load[i] * static_cast<double>(fastest) / static_cast<double>(speeds.empty() ? 1 : speeds[i]);
    return sum;
  };
  if (problem_.devices_per_rank > 1) first.insert(first.end(), {same_card, same_port});
  for (PlacementLevel& level : in_order<PlacementLevel>(problem_.order, std::move(near),
                                                        {{"cards", squares(card_load, card_speeds_)},
                                                         {"ports", squares(port_load, port_speeds_)},
                                                         {"devices", squares(device_load, {})}}))
    first.push_back(level);
  return first;
}

}  // namespace berth
