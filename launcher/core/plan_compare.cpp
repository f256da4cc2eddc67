#include "launcher/core/plan_compare.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "launcher/core/plan_explain.hpp"

namespace berth {
namespace {

/// The device of each slot; empty: none. A rank has as many slots, one after the other, as it is to have devices.
using Devices = std::vector<std::optional<std::size_t>>;

/// How far a device is from a rank; smaller is better.
using Farness = std::tuple<PciPath, Nearness, std::uint64_t>;

class Policies {
 public:
  Policies(const PlacementProblem& problem, const Placement& best)
      : problem_(problem),
        best_(best),
        slots_(best.choices.size() * problem.devices_per_rank),
        locality_(problem.topology) {
    for (const PlacementDevice& device : problem.devices) places_.push_back(locality_.locate(device.local_cpus));
  }

  [[nodiscard]] Devices block() const {
    const std::size_t devices = problem_.devices.size();
    Devices chosen;
    for (std::size_t slot = 0; slot < slots_; ++slot)
      chosen.emplace_back(slots_ >= devices ? slot * devices / slots_ : slot);
    return chosen;
  }

  [[nodiscard]] Devices round_robin() const {
    std::vector<std::vector<std::size_t>> ports;
    std::map<std::string, std::size_t> numbers;
    for (std::size_t device = 0; device < problem_.devices.size(); ++device) {
      const auto [port, is_new] = numbers.emplace(problem_.devices[device].port, ports.size());
      if (is_new) ports.emplace_back();
      ports[port->second].push_back(device);
    }
    Devices chosen;
    for (std::size_t slot = 0; slot < slots_; ++slot) {
      const auto& port = ports[slot % ports.size()];
      chosen.emplace_back(port[slot / ports.size() % port.size()]);
    }
    return chosen;
  }

  [[nodiscard]] Devices numa() const {
    std::map<std::vector<std::size_t>, std::size_t> turns;
    Devices chosen;
    for (std::size_t slot = 0; slot < slots_; ++slot) {
      const std::vector<std::size_t> near = nearest(slot);
      chosen.emplace_back(near[turns[near]++ % near.size()]);
    }
    return chosen;
  }

  [[nodiscard]] Devices first_free() const {
    std::vector<std::size_t> load(problem_.devices.size(), 0);
    Devices chosen;
    for (std::size_t slot = 0; slot < slots_; ++slot) {
      std::optional<std::size_t> taken;
      for (std::size_t device = 0; device < load.size(); ++device) {
        if (load[device] >= problem_.devices[device].capacity) continue;
        if (!taken || farness(slot, device) < farness(slot, *taken)) taken = device;
      }
      if (taken) ++load[*taken];
      chosen.push_back(taken);
    }
    return chosen;
  }

 private:
  [[nodiscard]] Farness farness(std::size_t slot, std::size_t device) const {
    const std::size_t rank = slot / problem_.devices_per_rank;
    const auto& gpu = problem_.ranks[rank].gpu;
    const CpuSet& cpus = best_.choices[rank].cpus;
    return {gpu ? locality_.path(*gpu, problem_.devices[device].location) : PciPath::one_switch,
            locality_.nearness(cpus, places_[device]), locality_.distance(cpus, places_[device])};
  }

  [[nodiscard]] std::vector<std::size_t> nearest(std::size_t slot) const {
    std::vector<std::size_t> near;
    std::optional<Farness> least;
    for (std::size_t device = 0; device < problem_.devices.size(); ++device) {
      const Farness far = farness(slot, device);
      if (least && far > *least) continue;
      if (!least || far < *least) near.clear();
      least = far;
      near.push_back(device);
    }
    return near;
  }

  const PlacementProblem& problem_;
  const Placement& best_;
  std::size_t slots_;
  Locality locality_;
  std::vector<Locality::Device> places_;
};

double value_of(const std::vector<PlacementLevel>& objective, std::string_view name) {
  for (const PlacementLevel& level : objective)
    if (level.name == name) return level.value;
  return 0;
}

ComparedPlacement measure(const PlacementProblem& problem, std::string_view policy, std::string_view meaning,
                          std::vector<PlacementChoice> choices) {
  ComparedPlacement compared{policy, meaning, std::move(choices), 0, 0, 0, 0, {}};
  compared.objective = measure_placement(problem, compared.choices);
  compared.remote = static_cast<std::size_t>(value_of(compared.objective, "remote"));
  compared.distance = value_of(compared.objective, "distance");
  std::map<std::string, std::size_t> ports;
  std::set<std::size_t> taken;
  for (const PlacementChoice& choice : compared.choices) {
    for (const std::size_t device : choice.devices) {
      compared.worst_port = std::max(compared.worst_port, ++ports[problem.devices[device].port]);
      if (!taken.insert(device).second) ++compared.shared;
    }
  }
  return compared;
}

}  // namespace

std::vector<ComparedPlacement> compare_placements(const PlacementProblem& problem, const Placement& best) {
  std::vector<ComparedPlacement> compared;
  compared.push_back(measure(problem, "berth", "the best there is", best.choices));
  if (problem.devices.empty() || best.choices.empty()) return compared;
  const Policies policies(problem, best);
  const auto add = [&](std::string_view policy, std::string_view meaning, const Devices& devices) {
    std::vector<PlacementChoice> choices = best.choices;
    for (PlacementChoice& choice : choices) choice.devices.clear();
    for (std::size_t slot = 0; slot < devices.size(); ++slot)
      if (devices[slot]) choices[slot / problem.devices_per_rank].devices.push_back(*devices[slot]);
    compared.push_back(measure(problem, policy, meaning, std::move(choices)));
  };
  add("block", "one device after the other", policies.block());
  add("round-robin", "around the ports", policies.round_robin());
  add("numa", "a nearest device, each rank alone", policies.numa());
  add("first-free", "the nearest that is left, in rank order", policies.first_free());
  return compared;
}

nlohmann::json to_json_value(const std::vector<ComparedPlacement>& compared, const std::vector<std::string>& devices) {
  nlohmann::json array = nlohmann::json::array();
  for (const ComparedPlacement& one : compared) {
    nlohmann::json assignment = nlohmann::json::array();
    for (const PlacementChoice& choice : one.choices) {
      std::vector<std::string> ids;
      for (const std::size_t device : choice.devices) ids.push_back(devices[device]);
      assignment.push_back(ids.empty()       ? nlohmann::json(nullptr)
                           : ids.size() == 1 ? nlohmann::json(ids[0])
                                             : nlohmann::json(ids));
    }
    array.push_back({{"policy", one.policy},
                     {"remote", one.remote},
                     {"worst_port", one.worst_port},
                     {"distance", one.distance},
                     {"shared", one.shared},
                     {"devices", std::move(assignment)},
                     {"objective", to_json_value(one.objective)}});
  }
  return array;
}

}  // namespace berth
