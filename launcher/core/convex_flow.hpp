// Min-cost flow through arcs whose cost grows linearly and with the square of their flow. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

namespace berth {

/// `Cost` is an integer that does not overflow: of N nodes, |cost| × N must fit.
///
/// Every unit of flow takes a shortest path of the residual network (Dijkstra with potentials), so the flow is a
/// cheapest one at any time. Arcs may be costly, never negative. Of an optimal flow, the other optimal flows are those
/// that cycles of arcs without reduced cost lead to: after finish(), claim() walks them, to find the one that one likes
/// best.
template <class Cost>
class ConvexFlow {
 public:
  using Index = std::uint32_t;

  Index add_node() {
    touching_.emplace_back();
    potential_.emplace_back(0);
    return static_cast<Index>(touching_.size() - 1);
  }

  /// Its k-th unit costs linear + (2k - 1) × square, so that all of them cost linear × flow + square × flow².
  Index add_arc(Index from, Index to, std::size_t capacity, Cost linear, Cost square) {
    const auto arc = static_cast<Index>(arcs_.size());
    arcs_.push_back({from, to, capacity, 0, 0, linear + square, square - linear, square + square});
    touching_[from].push_back(arc);
    touching_[to].push_back(arc);
    return arc;
  }

  [[nodiscard]] std::size_t flow(Index arc) const { return arcs_[arc].flow; }
  [[nodiscard]] bool is_claimed_up(Index arc) const { return arcs_[arc].claimed == arcs_[arc].capacity; }

  /// To be called for a node that nothing flows through yet, and then for those before it, so that the potentials hold
  /// for its arcs too.
  void enter(Index node) {
    std::optional<Cost> highest;
    for (const Index id : touching_[node]) {
      const Arc& arc = arcs_[id];
      if (arc.from != node || arc.capacity == 0) continue;
      const Cost potential = potential_[arc.to] - arc.add;
      if (!highest || *highest < potential) highest = potential;
    }
    if (highest) potential_[node] = *highest;
  }

  /// One unit more from `source` to `sink`; false if there is no way.
  bool augment(Index source, Index sink) {
    distance_.assign(touching_.size(), std::nullopt);
    via_.resize(touching_.size());
    std::vector<Index> reached{source};
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    distance_[source] = Cost(0);
    queue.push({Cost(0), source});
    while (!queue.empty() && queue.top().second != sink) {
      const auto [distance, node] = queue.top();
      queue.pop();
      if (*distance_[node] < distance) continue;
      for (const Index id : touching_[node]) {
        const auto step = step_from(node, id);
        if (!step) continue;
        const Cost longer = distance + step->reduced;
        if (distance_[step->to] && !(longer < *distance_[step->to])) continue;
        if (!distance_[step->to]) reached.push_back(step->to);
        distance_[step->to] = longer;
        via_[step->to] = id;
        queue.push({longer, step->to});
      }
    }
    if (queue.empty()) return false;
    const Cost shortest = *distance_[sink];
    for (const Index node : reached) {
      if (*distance_[node] < shortest) potential_[node] += *distance_[node] - shortest;
    }
    push(source, sink);
    return true;
  }

  /// After the last augment(), before the first claim(): from here on it only counts which changes cost nothing.
  void finish() {
    is_finished_ = true;
    for (Arc& arc : arcs_) find_free_changes(arc);
  }

  /// The nodes from which `target` can be reached by changes that cost nothing.
  void find_tight_origins(Index target, std::vector<bool>& origins) const {
    origins.assign(touching_.size(), false);
    origins[target] = true;
    std::vector<Index> queue{target};
    for (std::size_t next = 0; next < queue.size(); ++next) {
      const Index node = queue[next];
      for (const Index id : touching_[node]) {
        const Index other = arcs_[id].from == node ? arcs_[id].to : arcs_[id].from;
        if (origins[other] || !is_free_step(other, id)) continue;
        origins[other] = true;
        queue.push_back(other);
      }
    }
  }

  /// Reserves one unit of the flow through `arc`, whatever is claimed later. If all of it is reserved already, more
  /// flow is led through the arc, provided that this costs nothing; else false, and nothing has changed.
  bool claim(Index arc) {
    if (arcs_[arc].flow == arcs_[arc].claimed) {
      if (!is_free_step(arcs_[arc].from, arc)) return false;
      if (!find_tight_path(arcs_[arc].to, arcs_[arc].from, arc)) return false;
      push(arcs_[arc].to, arcs_[arc].from);
      change(arcs_[arc], true);
    }
    ++arcs_[arc].claimed;
    return true;
  }

  void unclaim(Index arc) { --arcs_[arc].claimed; }

 private:
  using Entry = std::pair<Cost, Index>;

  struct Arc {
    Index from, to;
    std::size_t capacity, flow, claimed;
    Cost add;                   ///< of one unit more
    Cost remove;                ///< of one unit less: negative
    Cost growth;                ///< of `add` with each unit
    bool more_is_free = false;  ///< after finish(): `add` does not change the cost of the whole
    bool less_is_free = false;
  };

  struct Step {
    Index to;
    Cost reduced;
  };

  /// What it costs to leave `node` by this arc, or against it; nullopt if that cannot be.
  [[nodiscard]] std::optional<Step> step_from(Index node, Index id) const {
    const Arc& arc = arcs_[id];
    if (arc.from == node) {
      if (arc.flow == arc.capacity) return std::nullopt;
      return Step{arc.to, arc.add + potential_[node] - potential_[arc.to]};
    }
    if (arc.flow == arc.claimed) return std::nullopt;
    return Step{arc.from, arc.remove + potential_[node] - potential_[arc.from]};
  }

  void find_free_changes(Arc& arc) const {
    const Cost difference = potential_[arc.from] - potential_[arc.to];
    arc.more_is_free = arc.add + difference == Cost(0);
    arc.less_is_free = arc.remove == difference;
  }

  [[nodiscard]] bool is_free_step(Index node, Index id) const {
    const Arc& arc = arcs_[id];
    return arc.from == node ? arc.more_is_free && arc.flow < arc.capacity : arc.less_is_free && arc.flow > arc.claimed;
  }

  bool find_tight_path(Index source, Index target, Index without) {
    visited_.assign(touching_.size(), false);
    via_.resize(touching_.size());
    visited_[source] = true;
    std::vector<Index> queue{source};
    for (std::size_t next = 0; next < queue.size(); ++next) {
      if (queue[next] == target) return true;
      for (const Index id : touching_[queue[next]]) {
        const Index other = arcs_[id].from == queue[next] ? arcs_[id].to : arcs_[id].from;
        if (id == without || visited_[other] || !is_free_step(queue[next], id)) continue;
        visited_[other] = true;
        via_[other] = id;
        queue.push_back(other);
      }
    }
    return false;
  }

  /// Along the path that `via_` describes.
  void push(Index source, Index target) {
    for (Index node = target; node != source;) {
      Arc& arc = arcs_[via_[node]];
      const bool forward = arc.to == node;
      node = forward ? arc.from : arc.to;
      change(arc, forward);
    }
  }

  void change(Arc& arc, bool more) {
    if (more) {
      ++arc.flow;
      arc.add += arc.growth;
      arc.remove -= arc.growth;
    } else {
      --arc.flow;
      arc.add -= arc.growth;
      arc.remove += arc.growth;
    }
    if (is_finished_) find_free_changes(arc);
  }

  bool is_finished_ = false;
  std::vector<Arc> arcs_;
  std::vector<std::vector<Index>> touching_;   ///< per node: arcs that begin or end there
  std::vector<Cost> potential_;                ///< per node
  std::vector<std::optional<Cost>> distance_;  ///< per node, of the last augment()
  std::vector<Index> via_;                     ///< per node: the arc by which the last search came
  std::vector<bool> visited_;                  ///< per node, of the last find_tight_path()
};

}  // namespace berth
