// Figures of all berths of this node that somebody holds, again and again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/broker/journal.hpp"
#include "launcher/core/berth_counters.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// Which berths: all, or those of a job, or of one of its steps.
struct StepFilter {
  std::optional<std::uint32_t> job;
  std::optional<std::uint32_t> step;
};

class NodeSampler {
 public:
  /// `port_counters`: see CountersReader.
  NodeSampler(const std::string& state_directory, std::string node, StepFilter filter, bool port_counters);

  /// The figures now. Root sees all; others see the berths that processes of theirs are in, and with those that they
  /// hold otherwise comes an error in the place of the figures. Throws Error{policy} if a job was asked for that is
  /// another user's.
  NodeFigures sample();

  /// How many berths of others the last sample() left out.
  [[nodiscard]] unsigned left_out() const { return left_out_; }

 private:
  bool records_may_have_changed();
  void read_leases();

  Journal journal_;
  std::string node_;
  StepFilter filter_;
  bool port_counters_;
  UniqueFd changes_;                          // of the lease directory; empty: nobody says what changes there
  std::vector<LeaseRecord> leases_;           // that are to be shown
  std::optional<LeaseOwner> left_out_owner_;  // one of those who hold what is left out
  unsigned left_out_ = 0;
};

}  // namespace berth
