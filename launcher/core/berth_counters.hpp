// What a berth has sent and received, and what its ranks hold of its RDMA device: figures of the kernel, as values.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// Version of the JSON form (docs/json.md).
constexpr int kStatsVersion = 1;

/// Counters of a network device since it was made; the kernel cannot set them back.
struct LinkCounters {
  std::uint64_t rx_bytes = 0;
  std::uint64_t rx_packets = 0;
  std::uint64_t rx_errors = 0;
  std::uint64_t rx_dropped = 0;
  std::uint64_t multicast = 0;  ///< received
  std::uint64_t tx_bytes = 0;
  std::uint64_t tx_packets = 0;
  std::uint64_t tx_errors = 0;
  std::uint64_t tx_dropped = 0;
  bool operator==(const LinkCounters&) const = default;
};

/// What one process has made on an RDMA device.
struct RdmaObjects {
  unsigned qps = 0;
  unsigned cqs = 0;
  unsigned mrs = 0;
  bool operator==(const RdmaObjects&) const = default;
};

struct RdmaCounters {
  std::string device = {};
  unsigned port = 1;
  bool shared = false;  ///< others use the device, too: the counters are not the rank's alone
  std::map<std::string, std::uint64_t> counters =
      {};                                   ///< as the kernel names them; which there are is the driver's choice
  std::map<int, RdmaObjects> objects = {};  ///< of the berth's processes, by pid
  bool operator==(const RdmaCounters&) const = default;
};

/// What is empty could not be had, or there is none.
struct BerthCounters {
  std::optional<LinkCounters> link = {};
  std::optional<RdmaCounters> rdma = {};
  bool operator==(const BerthCounters&) const = default;
};

/// Whose figures they are. Ranks that share a berth share its figures.
struct BerthLabels {
  std::uint32_t job = 0;  ///< 0: not Slurm's
  std::uint32_t step = 0;
  int launcher_pid = 0;  ///< 0: slurmstepd
  std::string user = {};
  std::string container = {};  ///< id; empty: a step's
  std::vector<unsigned> ranks = {};
  std::string device = {};  ///< id of the berth
  std::string pool = {};
  std::string interface = {};  ///< empty: in the host's network
  bool operator==(const BerthLabels&) const = default;
};

struct BerthFigures {
  BerthLabels labels = {};
  BerthCounters counters = {};
  std::string error = {};  ///< why they are missing
  bool operator==(const BerthFigures&) const = default;
};

/// Figures of one node at one time.
struct NodeFigures {
  std::string node = {};
  double time = 0;  ///< seconds since 1970
  std::optional<double> since =
      {};  ///< counters are those of the time from then on; empty: since their devices were made
  std::vector<BerthFigures> berths = {};
};

/// The line of `interface` in the text of /proc/PID/net/dev (proc_pid_net(5)); nullopt if there is none. Throws
/// Error{host} if it is there and not as the kernel writes it.
std::optional<LinkCounters> parse_link_counters(std::string_view text, std::string_view interface);

/// What was counted between two readings. A counter that is smaller than it was has begun anew meanwhile. Objects are
/// those of `now`.
BerthCounters difference(const BerthCounters& now, const BerthCounters& before);

nlohmann::json to_json_value(const BerthCounters& counters);
/// Throws nlohmann::json::exception if it is not what to_json_value() makes.
BerthCounters parse_berth_counters(const nlohmann::json& json);
/// The answer of `berth stats --json` and of --rdma-stats=FILE.
nlohmann::json to_json_value(const NodeFigures& figures);

}  // namespace berth
