// What a step's berths have sent and received, for --rdma-stats: read when they are leased and when their ranks have
// ended, because the kernel cannot set counters back. The other halves of Step are step.cpp and step_berths.cpp.
#include <fmt/format.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/broker/counters_reader.hpp"
#include "launcher/broker/step.hpp"
#include "launcher/core/counters_text.hpp"
#include "launcher/core/stats_file.hpp"
#include "launcher/image/child.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

namespace {

/// What is written may lie on a file system that hangs, or go to somebody who does not read.
constexpr std::chrono::seconds kWritePatience{3};

/// Bytes of a report to the launcher: it must fit into one message.
constexpr std::size_t kLongestReport = std::size_t{128} << 10U;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error(errno, "cannot show the figures of the step", "write");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

/// Figures are no reason for a step to fail: what cannot be read is said in their place.
void Step::read_baselines() {
  figures_since_ = seconds_now();
  CountersReader reader(true);
  for (TakenBerth& berth : berths_) {
    berth.figures.emplace();
    berth.figures->labels = make_labels(berth.held->record);
    try {
      berth.baseline = reader.read(berth.held->record, berth.held->netns);
    } catch (const Error& error) {
      berth.figures->error = fmt::format("{}: {}", error.what_text, error.why);
    }
  }
}

/// Of a berth that is about to be released.
void Step::read_last_figures(const std::vector<std::size_t>& berths) {
  CountersReader reader(true);
  for (const std::size_t i : berths) {
    TakenBerth& berth = berths_[i];
    if (!berth.baseline || !berth.held) continue;
    try {
      berth.figures->counters = difference(reader.read(berth.held->record, berth.held->netns), *berth.baseline);
      // The kernel frees what processes have made a moment after their end.
      if (berth.figures->counters.rdma) berth.figures->counters.rdma->objects.clear();
    } catch (const Error& error) {
      berth.figures->error = fmt::format("{}: {}", error.what_text, error.why);
    }
    berth.baseline.reset();
  }
}

/// What the user is to be told: the figures, or, where they go to a file, only what went wrong with it.
std::string Step::report_figures() {
  if (!record_.request.stats) return {};
  std::vector<std::size_t> all(berths_.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  read_last_figures(all);
  NodeFigures node{.node = record_.node, .time = seconds_now(), .since = figures_since_, .berths = {}};
  for (const TakenBerth& berth : berths_)
    if (berth.figures) node.berths.push_back(*berth.figures);
  if (node.berths.empty()) return {};
  if (record_.request.stats->empty()) {
    std::string text = make_summary(node);
    if (text.size() <= kLongestReport) return text;
    text.resize(text.rfind('\n', kLongestReport));
    return text + "\nberth: and more; --rdma-stats=FILE has them all";
  }
  std::string path = expand_stats_pattern(
      *record_.request.stats, record_.node,
      record_.job != 0 ? record_.job : static_cast<std::uint32_t>(record_.launcher_pid), record_.step);
  if (!path.starts_with('/')) path = working_directory_ + "/" + path;
  try {
    const std::string text = to_json_value(node).dump() + "\n";
    ask_child(fmt::format("cannot write '{}'", path), kWritePatience, [&]() -> ChildAnswer {
      drop_to_user({record_.uid, record_.gid, record_.groups});
      write_file_atomically(path, text, 0644);
      return {};
    });
  } catch (const Error& error) {
    return error.render();
  }
  return {};
}

void Step::answer_report() {
  const std::string report = report_figures();
  try {
    send_message(control_.get(), {{"report", report}});
  } catch (const Error&) {  // slurmstepd has died meanwhile: the end of its socket comes next
  }
}

/// To the standard error of a rank that `berth run` started: nobody else is there to tell. Written with the user's
/// rights, because it may be any file.
void Step::say_figures() {
  const std::string report = report_figures();
  if (report.empty() || ranks_.empty() || !voice_) return;
  try {
    ask_child("cannot show the figures of the step", kWritePatience, [&]() -> ChildAnswer {
      drop_to_user({record_.uid, record_.gid, record_.groups});
      write_all(voice_.get(), report + "\n");
      return {};
    });
  } catch (const Error& error) {
    syslog(LOG_WARNING, "%s: %s", name().c_str(), error.render().c_str());
  }
}

}  // namespace berth
