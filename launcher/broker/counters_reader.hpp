// Reads the figures of berths: traffic of their network devices, counters and objects of their RDMA devices.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "launcher/broker/journal.hpp"
#include "launcher/core/berth_counters.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/netlink_rdma.hpp"

namespace berth {

BerthLabels make_labels(const LeaseRecord& record);

/// One look at some berths. What several of them share (an RDMA device of the host) is read once for all.
class CountersReader {
 public:
  /// `port_counters`: also what sysfs alone has (read_rdma_port_counters()), which may cost a question to the firmware
  /// for each counter.
  explicit CountersReader(bool port_counters) : port_counters_(port_counters) {}

  /// Enters `netns`, the berth's own, if there is one, and needs CAP_SYS_ADMIN then. Leaves nothing open in it. Throws
  /// Error{host} if device or namespace are not as the record says.
  BerthCounters read(const LeaseRecord& record, const UniqueFd& netns);

  /// What can be known without entering: the traffic in the netns of process `pid`, and an RDMA device that the calling
  /// thread's netns shows. Needs no privilege. nullopt: the process is not in the berth (any more); in the host's
  /// network it does not matter. Throws likewise.
  std::optional<BerthCounters> read_from_outside(const LeaseRecord& record, int pid);

 private:
  [[nodiscard]] RdmaCounters read_rdma(const LeaseRecord& record) const;
  RdmaCounters read_host_rdma(const LeaseRecord& record);

  bool port_counters_;
  std::map<std::string, RdmaCounters> of_host_;
};

}  // namespace berth
