// What make_candidates() is made of: parents by their patterns, and what all devices of a pool have in common. Pure.
#pragma once

#include <fnmatch.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/ports.hpp"

namespace berth {

inline bool matches(const std::string& pattern, const std::string& name) {
  return !name.empty() && fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

inline bool matches(const std::string& pattern, const std::string& name, const std::optional<PciAddress>& pci) {
  return matches(pattern, name) || (pci && (matches(pattern, to_string(*pci)) || parse_pci_address(pattern) == pci));
}

inline bool has_wildcard(const std::string& pattern) { return pattern.find_first_of("*?[") != std::string::npos; }

/// Something that devices hang on, and its place among the parents of its pool.
template <typename T>
struct Parent {
  const T* item = nullptr;
  std::size_t position = 0;
};

template <typename T>
struct Parents {
  std::vector<Parent<T>> found;
  std::size_t positions = 0;       ///< how many there are, or would be if nothing had vanished
  bool known_from_policy = false;  ///< whether `positions` is the same on every node
};

/// In the order of the patterns, then of `items`. Without wildcards the position is that of the pattern, so that the
/// addresses of the other devices stay when one parent vanishes.
template <typename T, typename Match>
Parents<T> find_parents(const Pool& pool, const std::vector<T>& items, const Match& match) {
  const bool literal = std::none_of(pool.parents.begin(), pool.parents.end(), has_wildcard);
  Parents<T> parents;
  for (std::size_t pattern = 0; pattern < pool.parents.size(); ++pattern) {
    for (const T& item : items) {
      const bool known = std::any_of(parents.found.begin(), parents.found.end(),
                                     [&](const Parent<T>& parent) { return parent.item == &item; });
      if (known || !match(pool.parents[pattern], item)) continue;
      parents.found.push_back({&item, literal ? pattern : parents.found.size()});
    }
  }
  parents.positions = literal ? pool.parents.size() : parents.found.size();
  parents.known_from_policy = literal;
  return parents;
}

/// nullptr: the journal does not know the device.
const HeldDevice* find_held(const Inventory& inventory, const std::string& id);

/// Why a device cannot be had: what the journal has against it whatever it is, else its own `problem`; empty: it can.
std::string find_obstacle(const HeldDevice* held, std::string problem);

/// How many numbers every node gets for addresses. Where wildcards or "every VF" let nodes differ, each gets an equal
/// share of the smallest range instead of as many as it has devices: else two nodes could arrive at one address.
std::size_t numbers_per_node(const Pool& pool, std::size_t devices, bool known_from_policy);

void apply_port(Candidate& candidate, Port port);

/// Where in the machine the device is: there where `item` is, of whatever kind.
template <typename T>
void apply_place(Candidate& candidate, const T& item) {
  candidate.berth.numa_node = item.numa_node;
  candidate.location = make_pci_location(item.pci_path, item.local_cpus);
  candidate.local_cpus = item.local_cpus;
}

/// What the pool and the device's number say of it.
BerthSpec make_berth(const Pool& pool, const Inventory& inventory, std::size_t index, std::size_t devices_per_node);

/// vNICs, or shares of them (candidates_usnic.cpp).
std::vector<Candidate> usnic_candidates(const Pool& pool, const Inventory& inventory);

/// For a refusal: "; usnic_0 has 4 VFs, 1 of them is taken by process 4711, and a rank takes 1", for each vNIC.
std::string describe_usnic(const Pool& pool, const Inventory& inventory);

}  // namespace berth
