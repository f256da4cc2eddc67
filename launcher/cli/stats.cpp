// berth stats: what the berths of this node have sent and received.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "launcher/cli/node_sampler.hpp"
#include "launcher/cli/table.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/counters_text.hpp"
#include "launcher/core/error.hpp"

namespace berth {
namespace {

struct StatsOptions {
  std::string step;
  std::optional<double> interval;  // seconds
  std::string prometheus;
};

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

StepFilter parse_step(const std::string& text) {
  if (text.empty()) return {};
  const std::size_t dot = text.find('.');
  const StepFilter filter{
      parse_number(std::string_view(text).substr(0, dot)),
      dot == std::string::npos ? std::nullopt : parse_number(std::string_view(text).substr(dot + 1))};
  if (!filter.job || *filter.job == 0 || (dot != std::string::npos && !filter.step))
    throw Error(ErrorCode::usage, fmt::format("cannot show the step '{}'", text), "it is not JOB or JOB.STEP",
                "write numbers, for example 4711 or 4711.0");
  return filter;
}

double parse_interval(const std::string& text) {
  constexpr double kShortest = 0.1;
  constexpr double kLongest = 86400;
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds >= kShortest && seconds <= kLongest))
    throw Error(ErrorCode::usage, fmt::format("cannot use '--watch {}'", text), "it takes 0.1 to 86400 seconds",
                "for example --watch 2");
  return seconds;
}

// --- for people
// -------------------------------------------------------------------------------------------------------

std::string holder_of(const BerthLabels& labels) {
  if (!labels.container.empty()) return fmt::format("container {}", labels.container.substr(0, 12));
  return step_name(labels.job, labels.step, labels.launcher_pid);
}

std::string describe_rdma(const RdmaCounters& rdma, bool verbose) {
  RdmaObjects all;
  for (const auto& [pid, objects] : rdma.objects) {
    all.qps += objects.qps;
    all.cqs += objects.cqs;
    all.mrs += objects.mrs;
  }
  std::string text = fmt::format("{}:{}{} {} QPs {} CQs {} MRs", rdma.device, rdma.port, rdma.shared ? " (shared)" : "",
                                 all.qps, all.cqs, all.mrs);
  if (const auto traffic = rdma_traffic(rdma))
    text += fmt::format(", sent {}, received {}", format_bytes(traffic->sent), format_bytes(traffic->received));
  if (!verbose) return text;
  for (const auto& [name, value] : rdma.counters)
    if (value > 0) text += fmt::format(" {}={}", name, value);
  return text;
}

/// What the sample before says of the berth at `position` in this one; mostly they are in the same place.
const LinkCounters* find_former(const NodeFigures* former, const NodeFigures& figures, std::size_t position) {
  if (former == nullptr) return nullptr;
  const BerthLabels& labels = figures.berths[position].labels;
  const bool same = position < former->berths.size() && former->berths[position].labels == labels;
  const auto found = same ? former->berths.begin() + static_cast<std::ptrdiff_t>(position)
                          : std::ranges::find(former->berths, labels, &BerthFigures::labels);
  return found != former->berths.end() && found->counters.link ? &*found->counters.link : nullptr;
}

std::string format_rate(std::uint64_t now, std::uint64_t before, double seconds) {
  if (now < before || seconds <= 0) return {};
  return format_bytes(static_cast<std::uint64_t>(static_cast<double>(now - before) / seconds)) + "/s";
}

/// `former`: the sample before, for rates; null without.
std::string make_table(const NodeFigures& figures, const NodeFigures* former, bool with_rates, bool verbose) {
  std::vector<std::string> heading = {"HOLDER", "USER", "RANKS", "DEVICE", "SENT", "RECEIVED"};
  if (with_rates) heading.insert(heading.end(), {"SENDING", "RECEIVING"});
  heading.insert(heading.end(), {"PACKETS", "ERRORS", "DROPPED", "RDMA"});
  Table table(heading);
  for (std::size_t i = 0; i < figures.berths.size(); ++i) {
    const BerthFigures& berth = figures.berths[i];
    std::vector<std::string> cells = {holder_of(berth.labels), berth.labels.user,
                                      fmt::format("{}", fmt::join(berth.labels.ranks, ",")), berth.labels.device};
    if (const auto& link = berth.counters.link) {
      cells.insert(cells.end(), {format_bytes(link->tx_bytes), format_bytes(link->rx_bytes)});
      if (with_rates) {
        const LinkCounters* before = find_former(former, figures, i);
        const double seconds = before ? figures.time - former->time : 0;
        cells.push_back(before ? format_rate(link->tx_bytes, before->tx_bytes, seconds) : "");
        cells.push_back(before ? format_rate(link->rx_bytes, before->rx_bytes, seconds) : "");
      }
      cells.insert(cells.end(), {std::to_string(link->tx_packets + link->rx_packets),
                                 std::to_string(link->tx_errors + link->rx_errors),
                                 std::to_string(link->tx_dropped + link->rx_dropped)});
    }
    cells.resize(heading.size() - 1);
    cells.push_back(!berth.error.empty()  ? berth.error
                    : berth.counters.rdma ? describe_rdma(*berth.counters.rdma, verbose)
                                          : "");
    table.add(std::move(cells));
  }
  return table.empty() ? "no device is leased\n" : table.render();
}

/// Over what was shown before; what does not fit on the terminal is counted.
std::string make_screen(const std::string& text) {
  winsize size{};
  const std::size_t rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row : 1U << 16U;
  std::string screen = "\x1b[H";
  std::size_t shown = 0;
  const auto total = static_cast<std::size_t>(std::ranges::count(text, '\n'));
  for (std::size_t begin = 0; begin < text.size() && shown + 2 < rows; ++shown) {
    const std::size_t end = text.find('\n', begin);
    screen += text.substr(begin, end - begin) + "\x1b[K\n";
    begin = end + 1;
  }
  if (shown < total) screen += fmt::format("({} more)\x1b[K\n", total - shown);
  return screen + "\x1b[J";
}

// --- the verb
// ---------------------------------------------------------------------------------------------------------

class Shower {
 public:
  Shower(const StatsOptions& stats, const GlobalOptions& options)
      : stats_(stats), verbose_(options.verbose), live_(stats.interval && isatty(STDOUT_FILENO) == 1 && !options.json) {
    json_ = options.json || (stats.interval && !live_);
  }

  void show(NodeFigures figures) {
    if (!stats_.prometheus.empty()) {
      write_output(stats_.prometheus, make_prometheus_text(figures));
    } else if (json_) {
      print_json(to_json_value(figures).dump(stats_.interval ? -1 : 2));
    } else {
      const std::string table = make_table(figures, former_ ? &*former_ : nullptr, live_, verbose_);
      fmt::print("{}{}", live_ && !former_ ? "\x1b[2J" : "", live_ ? make_screen(table) : table);
      former_ = std::move(figures);
    }
    std::fflush(stdout);
  }

 private:
  const StatsOptions& stats_;
  bool verbose_;
  bool live_;
  bool json_ = false;
  std::optional<NodeFigures> former_;
};

void show_stats(const StatsOptions& stats, const GlobalOptions& options) {
  const StepFilter filter = parse_step(stats.step);
  // The data counters of RDMA ports cost a question to the firmware each: not every second.
  NodeSampler sampler(options.state_directory, options.node, filter, !stats.interval);
  Shower shower(stats, options);
  auto next = std::chrono::steady_clock::now();
  for (bool first = true;; first = false) {
    NodeFigures figures = sampler.sample();
    if (filter.job && figures.berths.empty()) {
      if (!first) return;  // the job has ended
      throw Error(ErrorCode::host, fmt::format("cannot show the figures of {}", stats.step),
                  fmt::format("it holds no device on {}", options.node), "`berth leases` shows who holds which");
    }
    shower.show(std::move(figures));
    if (first && sampler.left_out() > 0)
      fmt::print(stderr, "berth: {} berths of other users are left out; root sees them\n", sampler.left_out());
    if (!stats.interval) return;
    next +=
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(*stats.interval));
    next = std::max(next, std::chrono::steady_clock::now());
    std::this_thread::sleep_until(next);
  }
}

}  // namespace

void add_stats_verb(CLI::App& app, GlobalOptions& options) {
  auto stats = std::make_shared<StatsOptions>();
  CLI::App* verb = app.add_subcommand("stats", "Show what the ranks on this node send and receive.");
  verb->add_option("step", stats->step, "only this job, or this step of it")->type_name("JOB[.STEP]");
  CLI::Option* watch =
      verb->add_option("--watch", "again and again, every so many seconds (default: 1), until the job ends");
  watch->type_name("[SECONDS]")->expected(0, 1);
  verb->add_option("--prometheus", stats->prometheus, "write the figures for Prometheus instead of showing them")
      ->type_name("FILE");
  verb->footer(
      "Examples:\n"
      "  berth stats                     all ranks on this node (root), or yours\n"
      "  berth stats 4711 --watch        the ranks of job 4711, live\n"
      "  berth stats --watch 10 --json   a line of JSON every ten seconds (docs/json.md)\n"
      "  berth stats --watch 15 --prometheus /var/lib/node_exporter/berth.prom\n"
      "                                  for the textfile collector of node_exporter\n"
      "Figures count from when a device was made; those of one step alone: srun --rdma-stats.");
  verb->callback([stats, watch, &options] {
    if (watch->count() > 0) {
      const std::string value = watch->results().empty() ? "" : watch->results().front();
      stats->interval = value.empty() || value == "{}" ? 1.0 : parse_interval(value);
    }
    show_stats(*stats, options);
  });
}

}  // namespace berth
