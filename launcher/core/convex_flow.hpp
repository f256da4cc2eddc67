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
    arcs_.push_back({from, to, static_cast<Index>(std::min<std::size_t>(capacity, kAnyNumber))});
    costs_.push_back({linear + square, square - linear, square + square});
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
      const Cost potential = potential_[arc.to] - costs_[id].add;
      if (!highest || *highest < potential) highest = potential;
    }
    if (highest) potential_[node] = *highest;
  }

  /// One unit more from `source` to `sink`; false if there is no way.
  bool augment(Index source, Index sink) {
    search_.assign(touching_.size(), Search::unseen);
    distance_.resize(touching_.size());
    via_.resize(touching_.size());
    std::vector<Index> reached;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto reach = [&](Index node, const Cost& distance) {
      if (search_[node] == Search::unseen) reached.push_back(node);
      search_[node] = Search::reached;
      distance_[node] = distance;
      queue.push({distance, node});
    };
    reach(source, Cost(0));
    while (!queue.empty() && queue.top().second != sink) {
      const auto [distance, node] = queue.top();
      queue.pop();
      if (search_[node] == Search::settled) continue;
      search_[node] = Search::settled;
      const Cost so_far = distance + potential_[node];
      for (const Index id : touching_[node]) {
        const Arc& arc = arcs_[id];
        const bool forward = arc.from == node;
        const Index to = forward ? arc.to : arc.from;
        // Costs are long numbers: most arcs are ruled out without them.
        if (search_[to] == Search::settled || !has_room(arc, forward)) continue;
        Cost longer = so_far;
        longer += forward ? costs_[id].add : costs_[id].remove;
        longer -= potential_[to];
        if (search_[to] == Search::reached && !(longer < distance_[to])) continue;
        via_[to] = id;
        reach(to, longer);
      }
    }
    if (queue.empty()) return false;
    const Cost shortest = distance_[sink];
    for (const Index node : reached) {
      if (distance_[node] < shortest) potential_[node] += distance_[node] - shortest;
    }
    push(source, sink);
    return true;
  }

  /// After the last augment(), before the first claim(): from here on it only counts which changes cost nothing.
  void finish() {
    is_finished_ = true;
    for (Index arc = 0; arc < arcs_.size(); ++arc) find_free_changes(arc);
  }

  /// The nodes from which `target` can be reached by changes that cost nothing.
  void find_tight_origins(Index target, std::vector<char>& origins) const {
    origins.assign(touching_.size(), 0);
    origins[target] = 1;
    std::vector<Index> queue{target};
    for (std::size_t next = 0; next < queue.size(); ++next) {
      const Index node = queue[next];
      for (const Index id : touching_[node]) {
        const Index other = arcs_[id].from == node ? arcs_[id].to : arcs_[id].from;
        if (origins[other] != 0 || !is_free_step(other, id)) continue;
        origins[other] = 1;
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
      change(arc, true);
    }
    ++arcs_[arc].claimed;
    return true;
  }

  void unclaim(Index arc) { --arcs_[arc].claimed; }

 private:
  using Entry = std::pair<Cost, Index>;

  static constexpr Index kAnyNumber = static_cast<Index>(-1);

  /// What searches look at first, apart from the costs: these are long, and would push the rest out of the caches.
  struct Arc {
    Index from, to;
    Index capacity;
    Index flow = 0;
    Index claimed = 0;
    bool more_is_free = false;  ///< after finish(): one unit more does not change the cost of the whole
    bool less_is_free = false;
  };

  struct ArcCosts {
    Cost add;     ///< of one unit more
    Cost remove;  ///< of one unit less: negative
    Cost growth;  ///< of `add` with each unit
  };

  enum class Search : std::uint8_t { unseen, reached, settled };

  /// Whether there can be one unit more, or less.
  static bool has_room(const Arc& arc, bool forward) {
    return forward ? arc.flow < arc.capacity : arc.flow > arc.claimed;
  }

  void find_free_changes(Index arc) {
    const Cost difference = potential_[arcs_[arc].from] - potential_[arcs_[arc].to];
    arcs_[arc].more_is_free = costs_[arc].add + difference == Cost(0);
    arcs_[arc].less_is_free = costs_[arc].remove == difference;
  }

  [[nodiscard]] bool is_free_step(Index node, Index id) const {
    const Arc& arc = arcs_[id];
    const bool forward = arc.from == node;
    return (forward ? arc.more_is_free : arc.less_is_free) && has_room(arc, forward);
  }

  bool find_tight_path(Index source, Index target, Index without) {
    search_.assign(touching_.size(), Search::unseen);
    via_.resize(touching_.size());
    search_[source] = Search::reached;
    std::vector<Index> queue{source};
    for (std::size_t next = 0; next < queue.size(); ++next) {
      if (queue[next] == target) return true;
      for (const Index id : touching_[queue[next]]) {
        const Index other = arcs_[id].from == queue[next] ? arcs_[id].to : arcs_[id].from;
        if (id == without || search_[other] != Search::unseen || !is_free_step(queue[next], id)) continue;
        search_[other] = Search::reached;
        via_[other] = id;
        queue.push_back(other);
      }
    }
    return false;
  }

  /// Along the path that `via_` describes.
  void push(Index source, Index target) {
    for (Index node = target; node != source;) {
      const Index arc = via_[node];
      const bool forward = arcs_[arc].to == node;
      node = forward ? arcs_[arc].from : arcs_[arc].to;
      change(arc, forward);
    }
  }

  void change(Index arc, bool more) {
    ArcCosts& costs = costs_[arc];
    if (more) {
      ++arcs_[arc].flow;
      costs.add += costs.growth;
      costs.remove -= costs.growth;
    } else {
      --arcs_[arc].flow;
      costs.add -= costs.growth;
      costs.remove += costs.growth;
    }
    if (is_finished_) find_free_changes(arc);
  }

  bool is_finished_ = false;
  std::vector<Arc> arcs_;
  std::vector<ArcCosts> costs_;               ///< per arc
  std::vector<std::vector<Index>> touching_;  ///< per node: arcs that begin or end there
  std::vector<Cost> potential_;               ///< per node
  std::vector<Search> search_;                ///< per node, of the last search
  std::vector<Cost> distance_;                ///< per node that the last augment() reached
  std::vector<Index> via_;                    ///< per node that the last search reached: the arc by which it came
};

}  // namespace berth
