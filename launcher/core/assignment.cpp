#include "launcher/core/assignment.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace berth {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

Cost operator+(Cost a, const Cost& b) {
  for (std::size_t level = 0; level < a.size(); ++level) a[level] += b[level];
  return a;
}

Cost operator-(Cost a, const Cost& b) {
  for (std::size_t level = 0; level < a.size(); ++level) a[level] -= b[level];
  return a;
}

Cost operator*(Cost a, std::size_t factor) {
  for (std::int64_t& level : a) level *= static_cast<std::int64_t>(factor);
  return a;
}

/// The residual network of the ranks assigned so far. Its nodes are the devices, then the ports:
///   device → its port         one rank more on the device, if it has room
///   port → device             one rank less on the device, so that another device of the port may have one more
///   device → other device     a rank of the first moves to the second, and makes room
///   port → sink               one rank more on the port; squares make every further rank dearer than the one before
class Flow {
 public:
  explicit Flow(const AssignmentProblem& problem)
      : problem_(problem),
        devices_(problem.port_of.size()),
        ranks_on_(devices_),
        port_load_(problem.port_costs.size()) {}

  void add(std::size_t rank) {
    distance_.assign(devices_ + port_load_.size(), std::nullopt);
    came_from_.assign(distance_.size(), {kNone, kNone});
    improved_.assign(distance_.size(), false);
    for (std::size_t device = 0; device < devices_; ++device)
      reach(device, problem_.costs[rank][device], {kNone, rank});
    while (relax()) {
    }
    augment(cheapest_port());
  }

  [[nodiscard]] std::vector<std::size_t> devices() const { return device_of_; }

 private:
  struct Step {
    std::size_t node = kNone;  ///< where the path came from; kNone: from the source
    std::size_t rank = kNone;  ///< the rank that is put on this device; kNone: none, the step leads over a port
  };

  bool reach(std::size_t node, const Cost& cost, Step step) {
    if (distance_[node] && *distance_[node] <= cost) return false;
    distance_[node] = cost;
    came_from_[node] = step;
    improved_[node] = true;
    return true;
  }

  /// One round of Bellman-Ford: costs may be negative, but there is never a negative cycle, since the assignment so
  /// far is a cheapest one. Only what has improved since it was last looked at can improve anything else.
  bool relax() {
    bool changed = false;
    for (std::size_t device = 0; device < devices_; ++device) {
      if (!improved_[device]) continue;
      improved_[device] = false;
      const std::size_t load = ranks_on_[device].size();
      const std::size_t port = devices_ + problem_.port_of[device];
      if (load < problem_.capacity) {
        changed |= reach(port, *distance_[device] + problem_.device_cost * (2 * load + 1), {device, kNone});
      }
      for (const std::size_t rank : ranks_on_[device]) {
        const Cost freed = *distance_[device] - problem_.costs[rank][device];
        for (std::size_t other = 0; other < devices_; ++other) {
          if (other != device) changed |= reach(other, freed + problem_.costs[rank][other], {device, rank});
        }
      }
    }
    for (std::size_t device = 0; device < devices_; ++device) {
      const std::size_t load = ranks_on_[device].size();
      const std::size_t port = devices_ + problem_.port_of[device];
      if (load == 0 || !improved_[port]) continue;
      changed |= reach(device, *distance_[port] - problem_.device_cost * (2 * load - 1), {port, kNone});
    }
    std::fill(improved_.begin() + static_cast<std::ptrdiff_t>(devices_), improved_.end(), false);
    return changed;
  }

  [[nodiscard]] std::size_t cheapest_port() const {
    std::optional<std::pair<Cost, std::size_t>> best;
    for (std::size_t port = 0; port < port_load_.size(); ++port) {
      if (!distance_[devices_ + port]) continue;
      const Cost cost = *distance_[devices_ + port] + problem_.port_costs[port] * (2 * port_load_[port] + 1);
      if (!best || cost < best->first) best = {cost, port};
    }
    return best->second;  // exists: there is room for every rank
  }

  /// Walks the path back from the port and puts each rank on it where the path says.
  void augment(std::size_t port) {
    ++port_load_[port];
    for (std::size_t node = devices_ + port; node != kNone;) {
      const Step step = came_from_[node];
      if (step.rank != kNone) put(step.rank, node);
      node = step.node;
    }
  }

  void put(std::size_t rank, std::size_t device) {
    if (device_of_.size() <= rank) device_of_.resize(rank + 1, kNone);
    if (device_of_[rank] != kNone) std::erase(ranks_on_[device_of_[rank]], rank);
    device_of_[rank] = device;
    ranks_on_[device].push_back(rank);
  }

  const AssignmentProblem& problem_;
  std::size_t devices_;
  std::vector<std::vector<std::size_t>> ranks_on_;  ///< per device
  std::vector<std::size_t> port_load_;              ///< ranks per port
  std::vector<std::size_t> device_of_;              ///< per rank added so far
  std::vector<std::optional<Cost>> distance_;       ///< per node: cost of the cheapest path to it; empty: none yet
  std::vector<bool> improved_;                      ///< per node: since its steps were last tried
  std::vector<Step> came_from_;                     ///< per node
};

/// Gives earlier ranks earlier devices where that costs nothing: a rank takes a free device of the same port, or swaps
/// with a later rank.
void sort_equals(const AssignmentProblem& problem, std::vector<std::size_t>& devices) {
  std::vector<bool> used(problem.port_of.size(), false);
  for (const std::size_t device : devices) used[device] = true;
  for (std::size_t rank = 0; rank < devices.size(); ++rank) {
    const auto& costs = problem.costs;
    for (std::size_t free = 0; free < devices[rank] && problem.capacity == 1; ++free) {
      const bool same_port = problem.port_of[free] == problem.port_of[devices[rank]];
      if (used[free] || !same_port || costs[rank][free] != costs[rank][devices[rank]]) continue;
      used[devices[rank]] = false;
      used[free] = true;
      devices[rank] = free;
    }
    for (std::size_t later = rank + 1; later < devices.size(); ++later) {
      const Cost now = costs[rank][devices[rank]] + costs[later][devices[later]];
      const Cost swapped = costs[rank][devices[later]] + costs[later][devices[rank]];
      if (devices[later] < devices[rank] && swapped == now) std::swap(devices[rank], devices[later]);
    }
  }
}

}  // namespace

std::vector<std::size_t> assign_devices(const AssignmentProblem& problem) {
  Flow flow(problem);
  for (std::size_t rank = 0; rank < problem.costs.size(); ++rank) flow.add(rank);
  std::vector<std::size_t> devices = flow.devices();
  sort_equals(problem, devices);
  return devices;
}

}  // namespace berth
