#include "launcher/core/berth_counters.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/counters_text.hpp"
#include "launcher/core/error.hpp"

using namespace berth;

namespace {

/// Linux 6.18, a macvlan beside lo.
constexpr const char* kNetDev =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
    "compressed\n"
    "    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0   "
    "       0\n"
    " rdma0: 18446744073709551615 123456    3    4    0     0          0         7 987654321 654321    5    6    0    "
    " 0       0          0\n";

BerthFigures figures_of_rank(unsigned rank) {
  BerthFigures berth;
  berth.labels = {.job = 4711,
                  .step = 2,
                  .user = "alice",
                  .container = {},
                  .ranks = {rank},
                  .device = "0000:3b:00.2",
                  .pool = "fast",
                  .interface = "rdma0"};
  berth.counters.link = LinkCounters{.rx_bytes = 1500, .rx_packets = 3, .tx_bytes = 2500000, .tx_packets = 2000};
  return berth;
}

}  // namespace

TEST_CASE("Counters of a network device are those of its line") {
  const auto counters = parse_link_counters(kNetDev, "rdma0");
  REQUIRE(counters);
  CHECK(*counters == LinkCounters{.rx_bytes = 18446744073709551615U,
                                  .rx_packets = 123456,
                                  .rx_errors = 3,
                                  .rx_dropped = 4,
                                  .multicast = 7,
                                  .tx_bytes = 987654321,
                                  .tx_packets = 654321,
                                  .tx_errors = 5,
                                  .tx_dropped = 6});
  CHECK(parse_link_counters(kNetDev, "lo")->rx_packets == 2);
  for (const char* missing : {"rdma", "rdma00", "dma0", "face", ""}) CHECK_FALSE(parse_link_counters(kNetDev, missing));
  CHECK_FALSE(parse_link_counters("", "rdma0"));
  // A name that fills its field leaves no blank before the first number, nor does a long number.
  CHECK(parse_link_counters("verylonginterfa:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0", "verylonginterfa")->tx_bytes == 8);
}

TEST_CASE("A line of /proc/net/dev that is not as the kernel writes it is refused") {
  for (const char* line : {"rdma0:", "rdma0: 1 2 3", "rdma0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x",
                           "rdma0: -1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
                           "rdma0: 18446744073709551616 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"}) {
    INFO(line);
    CHECK_THROWS_AS(parse_link_counters(line, "rdma0"), Error);
  }
}

TEST_CASE("The difference of two readings is what was counted between them") {
  BerthCounters before{.link = LinkCounters{.rx_bytes = 100, .tx_bytes = 1000},
                       .rdma = RdmaCounters{.device = "mlx5_3"}};
  before.rdma->counters = {{"rcvd_pkts", 7}, {"sent_pkts", 50}};
  before.rdma->objects = {{4711, {.qps = 1}}};
  BerthCounters now = before;
  now.link->rx_bytes = 150;
  now.rdma->counters = {{"rcvd_pkts", 9}, {"sent_pkts", 50}, {"new", 3}};
  now.rdma->objects = {{4712, {.qps = 2}}};
  BerthCounters wanted = now;
  wanted.link = LinkCounters{.rx_bytes = 50};
  wanted.rdma->counters = {{"rcvd_pkts", 2}, {"sent_pkts", 0}, {"new", 3}};
  CHECK(difference(now, before) == wanted);

  SECTION("a counter that begins anew counts from there") {
    now.link->tx_bytes = 300;
    CHECK(difference(now, before).link->tx_bytes == 300);
  }
  SECTION("without a first reading the second stands") { CHECK(difference(now, {}) == now); }
}

TEST_CASE("Counters come back from JSON as they were") {
  BerthCounters counters{.link = LinkCounters{.rx_bytes = 18446744073709551615U, .multicast = 2, .tx_dropped = 1},
                         .rdma = RdmaCounters{.device = "rxe0v0", .port = 2, .shared = true}};
  counters.rdma->counters = {{"sent_pkts", 18446744073709551615U}};
  counters.rdma->objects = {{0, {.mrs = 1}}, {4711, {.qps = 1, .cqs = 2, .mrs = 3}}};
  CHECK(parse_berth_counters(nlohmann::json::parse(to_json_value(counters).dump())) == counters);
  CHECK(parse_berth_counters(to_json_value(BerthCounters{})) == BerthCounters{});
}

TEST_CASE("The JSON answer of berth stats has the keys of docs/json.md") {
  NodeFigures node{.node = "n1", .time = 12.5, .since = {}, .berths = {figures_of_rank(3)}};
  const auto answer = to_json_value(node);
  CHECK(answer["version"] == 1);
  CHECK(answer["node"] == "n1");
  CHECK(answer["since"].is_null());
  const auto& berth = answer["berths"][0];
  CHECK(berth["job"] == 4711);
  CHECK(berth["step"] == 2);
  CHECK(berth["launcher_pid"].is_null());
  CHECK(berth["ranks"] == std::vector<unsigned>{3});
  CHECK(berth["link"]["tx_bytes"] == 2500000);
  CHECK(berth["rdma"].is_null());
  CHECK(berth["error"] == "");
  node.since = 2.5;
  node.berths[0].labels.job = 0;
  node.berths[0].labels.launcher_pid = 99;
  CHECK(to_json_value(node)["since"] == 2.5);
  CHECK(to_json_value(node)["berths"][0]["job"].is_null());
  CHECK(to_json_value(node)["berths"][0]["launcher_pid"] == 99);
}

TEST_CASE("Bytes are shown with three digits and a unit") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1000) == "1.00 kB");
  CHECK(format_bytes(12345) == "12.3 kB");
  CHECK(format_bytes(999499) == "999 kB");
  CHECK(format_bytes(999500) == "1.00 MB");
  CHECK(format_bytes(123456789012) == "123 GB");
  CHECK(format_bytes(18446744073709551615U) == "18.4 EB");
}

TEST_CASE("A summary has one line for each berth") {
  NodeFigures node{.node = "n1", .time = 2, .since = 1, .berths = {figures_of_rank(0), figures_of_rank(1)}};
  node.berths[1].labels.ranks = {1, 2};
  node.berths[1].counters.link->rx_dropped = 4;
  node.berths[1].counters.rdma = RdmaCounters{.device = "mlx5_3", .shared = true};
  node.berths[1].counters.rdma->counters = {
      {"out_of_buffer", 0}, {"port_rcv_data", 250}, {"port_xmit_data", 250000}, {"rx_write_requests", 12}};
  CHECK(make_summary(node) ==
        "berth: rank 0 on n1, 0000:3b:00.2: sent 2.50 MB in 2000 packets, received 1.50 kB in 3\n"
        "berth: ranks 1,2 on n1, 0000:3b:00.2: sent 2.50 MB in 2000 packets, received 1.50 kB in 3, 4 dropped; RDMA "
        "mlx5_3:1 (with others): sent 1.00 MB, received 1.00 kB, rx_write_requests 12");
  node.berths = {figures_of_rank(0)};
  node.berths[0].counters.link.reset();
  CHECK(make_summary(node) == "berth: rank 0 on n1, 0000:3b:00.2: no counters");
  node.berths[0].error = "gone";
  CHECK(make_summary(node) == "berth: rank 0 on n1, 0000:3b:00.2: gone");
}

TEST_CASE("Prometheus gets every metric once, with its samples behind it") {
  NodeFigures node{.node = "n1", .time = 2, .since = {}, .berths = {figures_of_rank(0), figures_of_rank(1)}};
  node.berths[1].labels.device = "odd\"\\\n";
  node.berths[1].counters.rdma = RdmaCounters{.device = "mlx5_3"};
  node.berths[1].counters.rdma->counters = {{"rx.odd-name", 8}};
  node.berths[1].counters.rdma->objects = {{1, {.qps = 2}}, {2, {.qps = 3, .mrs = 1}}};
  const std::string text = make_prometheus_text(node);
  const std::string job = R"({job="4711",step="2",rank=)";
  CHECK(text.find("# HELP berth_network_transmit_bytes_total Bytes sent by the network device of a berth.\n"
                  "# TYPE berth_network_transmit_bytes_total counter\n"
                  "berth_network_transmit_bytes_total" +
                  job +
                  "\"0\",device=\"0000:3b:00.2\",pool=\"fast\"} 2500000\n"
                  "berth_network_transmit_bytes_total" +
                  job + "\"1\",device=\"odd\\\"\\\\\\n\",pool=\"fast\"} 2500000\n") != std::string::npos);
  const std::string rdma = R"(,pool="fast",rdma_device="mlx5_3",port="1"} )";
  CHECK(text.find("# TYPE berth_rdma_rx_odd_name_total counter\n") != std::string::npos);
  CHECK(text.find(rdma + "8\n") != std::string::npos);
  CHECK(text.find("# TYPE berth_rdma_qps gauge\n") != std::string::npos);
  CHECK(text.find(rdma + "5\n") != std::string::npos);
  CHECK(text.ends_with('\n'));
  CHECK(make_prometheus_text({}).empty());
}
