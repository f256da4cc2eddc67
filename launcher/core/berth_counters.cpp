#include "launcher/core/berth_counters.hpp"

#include <array>
#include <charconv>

#include "launcher/core/error.hpp"

namespace berth {

using nlohmann::json;

namespace {

/// Where each counter stands behind "NAME:" in a line of /proc/net/dev (net/core/net-procfs.c).
struct Column {
  std::size_t position;
  std::uint64_t LinkCounters::*counter;
  const char* name;  // of IFLA_STATS64 (struct rtnl_link_stats64), as `ip -s -j` has it without the prefix
};
constexpr std::size_t kColumns = 16;
constexpr std::array<Column, 9> kLinkCounters = {{
    {0, &LinkCounters::rx_bytes, "rx_bytes"},
    {1, &LinkCounters::rx_packets, "rx_packets"},
    {2, &LinkCounters::rx_errors, "rx_errors"},
    {3, &LinkCounters::rx_dropped, "rx_dropped"},
    {7, &LinkCounters::multicast, "multicast"},
    {8, &LinkCounters::tx_bytes, "tx_bytes"},
    {9, &LinkCounters::tx_packets, "tx_packets"},
    {10, &LinkCounters::tx_errors, "tx_errors"},
    {11, &LinkCounters::tx_dropped, "tx_dropped"},
}};

std::uint64_t difference(std::uint64_t now, std::uint64_t before) { return now >= before ? now - before : now; }

LinkCounters parse_columns(std::string_view text) {
  std::array<std::uint64_t, kColumns> values{};
  for (std::uint64_t& value : values) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || (end != text.data() + text.size() && *end != ' '))
      throw Error(ErrorCode::host, "cannot read the counters of a network device",
                  "a line of /proc/net/dev does not have 16 numbers");
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
  LinkCounters counters;
  for (const Column& column : kLinkCounters) counters.*column.counter = values.at(column.position);
  return counters;
}

}  // namespace

std::optional<LinkCounters> parse_link_counters(std::string_view text, std::string_view interface) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (!line.starts_with(interface) || !line.substr(interface.size()).starts_with(':')) continue;
    return parse_columns(line.substr(interface.size() + 1));
  }
  return std::nullopt;
}

BerthCounters difference(const BerthCounters& now, const BerthCounters& before) {
  BerthCounters result = now;
  if (result.link && before.link)
    for (const Column& column : kLinkCounters)
      (*result.link).*column.counter = difference((*now.link).*column.counter, (*before.link).*column.counter);
  if (result.rdma && before.rdma)
    for (auto& [name, value] : result.rdma->counters)
      if (const auto former = before.rdma->counters.find(name); former != before.rdma->counters.end())
        value = difference(value, former->second);
  return result;
}

json to_json_value(const BerthCounters& counters) {
  json value = {{"link", nullptr}, {"rdma", nullptr}};
  if (counters.link)
    for (const Column& column : kLinkCounters) value["link"][column.name] = (*counters.link).*column.counter;
  if (counters.rdma) {
    json objects = json::array();
    for (const auto& [pid, made] : counters.rdma->objects)
      objects.push_back({{"pid", pid}, {"qps", made.qps}, {"cqs", made.cqs}, {"mrs", made.mrs}});
    value["rdma"] = {{"device", counters.rdma->device},
                     {"port", counters.rdma->port},
                     {"shared", counters.rdma->shared},
                     {"counters", counters.rdma->counters},
                     {"objects", std::move(objects)}};
  }
  return value;
}

BerthCounters parse_berth_counters(const json& value) {
  BerthCounters counters;
  if (const json& link = value.at("link"); !link.is_null()) {
    counters.link.emplace();
    for (const Column& column : kLinkCounters) link.at(column.name).get_to((*counters.link).*column.counter);
  }
  if (const json& rdma = value.at("rdma"); !rdma.is_null()) {
    counters.rdma.emplace();
    rdma.at("device").get_to(counters.rdma->device);
    rdma.at("port").get_to(counters.rdma->port);
    rdma.at("shared").get_to(counters.rdma->shared);
    counters.rdma->counters = rdma.at("counters").get<std::map<std::string, std::uint64_t>>();
    for (const json& made : rdma.at("objects"))
      counters.rdma->objects[made.at("pid").get<int>()] = {
          made.at("qps").get<unsigned>(), made.at("cqs").get<unsigned>(), made.at("mrs").get<unsigned>()};
  }
  return counters;
}

json to_json_value(const NodeFigures& figures) {
  json berths = json::array();
  for (const BerthFigures& berth : figures.berths) {
    const BerthLabels& labels = berth.labels;
    json value = to_json_value(berth.counters);
    value["job"] = labels.job != 0 ? json(labels.job) : json();
    value["step"] = labels.job != 0 ? json(labels.step) : json();
    value["launcher_pid"] = labels.launcher_pid != 0 ? json(labels.launcher_pid) : json();
    value["user"] = labels.user;
    value["container"] = labels.container;
    value["ranks"] = labels.ranks;
    value["device"] = labels.device;
    value["pool"] = labels.pool;
    value["interface"] = labels.interface;
    value["error"] = berth.error;
    berths.push_back(std::move(value));
  }
  return {{"version", kStatsVersion},
          {"node", figures.node},
          {"time", figures.time},
          {"since", figures.since ? json(*figures.since) : json()},
          {"berths", std::move(berths)}};
}

}  // namespace berth
