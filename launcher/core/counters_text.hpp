// Figures of berths as text: for people, and for Prometheus.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/core/berth_counters.hpp"

namespace berth {

/// Decimal units, as networks are sold: "0 B", "999 B", "1.00 kB", "12.3 MB", "1.20 TB".
std::string format_bytes(std::uint64_t bytes);

/// "job 7.0 rank 3", "ranks 0,1 of process 4711", "container web1": short, for a line of its own.
std::string name_ranks(const BerthLabels& labels);

/// Bytes that went through the RDMA device itself, past the network stack, where the driver counts them.
struct RdmaTraffic {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
};
std::optional<RdmaTraffic> rdma_traffic(const RdmaCounters& counters);

/// One line for each berth, the first beginning with "berth: ": what --rdma-stats shows. Without a line end at the end.
std::string make_summary(const NodeFigures& figures);

/// Text format 0.0.4 of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/), for a file that the
/// textfile collector of node_exporter reads.
std::string make_prometheus_text(const NodeFigures& figures);

}  // namespace berth
