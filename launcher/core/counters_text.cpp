#include "launcher/core/counters_text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <iterator>
#include <set>

namespace berth {

namespace {

/// "Octets divided by 4", as the InfiniBand specification counts (PortXmitData).
constexpr std::uint64_t kOctetsPerUnit = 4;

void append(std::string& text, const char* separator, const std::string& part) {
  if (!part.empty()) text += (text.empty() ? "" : separator) + part;
}

std::string describe(const LinkCounters& link) {
  std::string text = fmt::format("sent {} in {} packets, received {} in {}", format_bytes(link.tx_bytes),
                                 link.tx_packets, format_bytes(link.rx_bytes), link.rx_packets);
  if (const auto lost = link.tx_errors + link.rx_errors; lost > 0) text += fmt::format(", {} errors", lost);
  if (const auto lost = link.tx_dropped + link.rx_dropped; lost > 0) text += fmt::format(", {} dropped", lost);
  return text;
}

std::string describe(const RdmaCounters& rdma) {
  std::string text = fmt::format("RDMA {}:{}{}", rdma.device, rdma.port, rdma.shared ? " (with others)" : "");
  if (const auto traffic = rdma_traffic(rdma))
    text += fmt::format(": sent {}, received {}", format_bytes(traffic->sent), format_bytes(traffic->received));
  std::string counters;
  for (const auto& [name, value] : rdma.counters)
    if (value > 0 && !name.starts_with("port_")) append(counters, " ", fmt::format("{} {}", name, value));
  append(text, rdma_traffic(rdma) ? ", " : ": ", counters);
  return text;
}

// --- Prometheus
// -------------------------------------------------------------------------------------------------------

/// Letters, digits and '_', as names of metrics have to be.
std::string metric_name(std::string_view name) {
  std::string result(name);
  std::ranges::replace_if(
      result, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return result;
}

std::string escape_label(std::string_view value) {
  std::string result;
  for (const char c : value) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result;
}

std::string make_labels(const BerthLabels& labels) {
  return fmt::format(R"(job="{}",step="{}",rank="{}",device="{}",pool="{}")",
                     labels.job != 0 ? std::to_string(labels.job) : "",
                     labels.job != 0 ? std::to_string(labels.step) : "", fmt::join(labels.ranks, ","),
                     escape_label(labels.device), escape_label(labels.pool));
}

struct LinkMetric {
  const char* name;
  const char* help;
  std::uint64_t LinkCounters::*counter;
};
constexpr std::array<LinkMetric, 9> kLinkMetrics = {{
    {"receive_bytes", "Bytes received by the network device of a berth.", &LinkCounters::rx_bytes},
    {"receive_packets", "Packets received by the network device of a berth.", &LinkCounters::rx_packets},
    {"receive_errors", "Receive errors of the network device of a berth.", &LinkCounters::rx_errors},
    {"receive_dropped", "Received packets dropped by the network device of a berth.", &LinkCounters::rx_dropped},
    {"receive_multicast", "Multicast packets received by the network device of a berth.", &LinkCounters::multicast},
    {"transmit_bytes", "Bytes sent by the network device of a berth.", &LinkCounters::tx_bytes},
    {"transmit_packets", "Packets sent by the network device of a berth.", &LinkCounters::tx_packets},
    {"transmit_errors", "Transmit errors of the network device of a berth.", &LinkCounters::tx_errors},
    {"transmit_dropped", "Packets to be sent dropped by the network device of a berth.", &LinkCounters::tx_dropped},
}};

struct ObjectMetric {
  const char* name;
  const char* help;
  unsigned RdmaObjects::*count;
};
constexpr std::array<ObjectMetric, 3> kObjectMetrics = {{
    {"qps", "Queue pairs of a berth's processes.", &RdmaObjects::qps},
    {"cqs", "Completion queues of a berth's processes.", &RdmaObjects::cqs},
    {"mrs", "Memory regions of a berth's processes.", &RdmaObjects::mrs},
}};

/// All samples of a metric must stand together, behind its HELP and TYPE.
class MetricText {
 public:
  explicit MetricText(const NodeFigures& figures) : figures_(figures) {}

  void add(
      const std::string& name, std::string_view help, const char* type,
      const std::function<void(const BerthFigures&, std::function<void(const std::string&, std::uint64_t)>)>& sample) {
    std::string samples;
    for (const BerthFigures& berth : figures_.berths)
      sample(berth, [&](const std::string& more_labels, std::uint64_t value) {
        samples += fmt::format("{}{{{}{}}} {}\n", name, make_labels(berth.labels), more_labels, value);
      });
    if (samples.empty()) return;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n{}", name, help, name, type, samples);
  }
  [[nodiscard]] std::string text() && { return std::move(text_); }

 private:
  const NodeFigures& figures_;
  std::string text_;
};

std::string port_labels(const RdmaCounters& rdma) {
  return fmt::format(R"(,rdma_device="{}",port="{}")", escape_label(rdma.device), rdma.port);
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  auto amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  constexpr double kNextUnit = 999.5;  // what would be shown as 1000
  for (amount /= 1000; amount >= kNextUnit && unit + 1 < kUnits.size(); ++unit) amount /= 1000;
  return fmt::format("{:.{}f} {}", amount, amount < 9.995 ? 2 : amount < 99.95 ? 1 : 0, kUnits.at(unit));
}

std::string name_ranks(const BerthLabels& labels) {
  if (!labels.container.empty()) return fmt::format("container {}", labels.container);
  return fmt::format("rank{} {}", labels.ranks.size() == 1 ? "" : "s", fmt::join(labels.ranks, ","));
}

std::optional<RdmaTraffic> rdma_traffic(const RdmaCounters& counters) {
  const auto sent = counters.counters.find("port_xmit_data");
  const auto received = counters.counters.find("port_rcv_data");
  if (sent == counters.counters.end() || received == counters.counters.end()) return std::nullopt;
  return RdmaTraffic{sent->second * kOctetsPerUnit, received->second * kOctetsPerUnit};
}

std::string make_summary(const NodeFigures& figures) {
  std::string text;
  for (const BerthFigures& berth : figures.berths) {
    std::string what;
    append(what, "; ", berth.counters.link ? describe(*berth.counters.link) : "");
    append(what, "; ", berth.counters.rdma ? describe(*berth.counters.rdma) : "");
    append(what, "; ", berth.error);
    append(text, "\n",
           fmt::format("berth: {} on {}, {}: {}", name_ranks(berth.labels), figures.node, berth.labels.device,
                       what.empty() ? "no counters" : what));
  }
  return text;
}

std::string make_prometheus_text(const NodeFigures& figures) {
  MetricText text(figures);
  for (const LinkMetric& metric : kLinkMetrics)
    text.add(fmt::format("berth_network_{}_total", metric.name), metric.help, "counter",
             [&](const BerthFigures& berth, const auto& sample) {
               if (berth.counters.link) sample("", (*berth.counters.link).*metric.counter);
             });
  std::set<std::string> names;
  for (const BerthFigures& berth : figures.berths)
    if (berth.counters.rdma)
      for (const auto& [name, value] : berth.counters.rdma->counters) names.insert(name);
  for (const std::string& name : names)
    text.add(fmt::format("berth_rdma_{}_total", metric_name(name)),
             fmt::format("Counter {} of the RDMA device of a berth.", metric_name(name)), "counter",
             [&](const BerthFigures& berth, const auto& sample) {
               if (!berth.counters.rdma) return;
               const auto found = berth.counters.rdma->counters.find(name);
               if (found != berth.counters.rdma->counters.end())
                 sample(port_labels(*berth.counters.rdma), found->second);
             });
  for (const ObjectMetric& metric : kObjectMetrics)
    text.add(fmt::format("berth_rdma_{}", metric.name), metric.help, "gauge",
             [&](const BerthFigures& berth, const auto& sample) {
               if (!berth.counters.rdma) return;
               std::uint64_t count = 0;
               for (const auto& [pid, objects] : berth.counters.rdma->objects) count += objects.*metric.count;
               sample(port_labels(*berth.counters.rdma), count);
             });
  return std::move(text).text();
}

}  // namespace berth
