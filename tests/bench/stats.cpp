// What figures cost: `berth stats --watch` on many berths, and what --rdma-stats adds to a step. Prints JSON lines.
//
//   bench_stats BERTH SECONDS ROUNDS      as root; BERTH: the program to measure
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "launcher/broker/counters_reader.hpp"
#include "launcher/core/counters_text.hpp"
#include "tests/bench/berths.hpp"
#include "tests/bench/crowd.hpp"

namespace {

using namespace berth;

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

/// Processor time of `berth stats --watch 1` and its children in so many seconds, in percent of one core.
double watch(const char* program, int seconds) {
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, "cannot measure", "fork");
  if (pid == 0) {
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDOUT_FILENO);
    execl(program, "berth", "--state", "/mnt/berth", "stats", "--watch", "1", static_cast<char*>(nullptr));
    _exit(127);
  }
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  kill(pid, SIGTERM);
  int status = 0;
  rusage usage{};
  wait4(pid, &status, 0, &usage);
  if (!WIFSIGNALED(status)) throw Error(ErrorCode::host, "cannot measure", "berth stats has ended by itself");
  return (seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime)) / seconds * 100;
}

void report(const char* what, const char* how, std::size_t ranks, const char* unit, double value) {
  fmt::print("{{\"what\": \"{}\", \"how\": \"{}\", \"ranks\": {}, \"{}\": {:.4f}}}\n", what, how, ranks, unit, value);
  std::fflush(stdout);
}

/// What the broker does for --rdma-stats.
void measure_readings(const bench::Berths& berths) {
  const std::size_t count = berths.held().size();
  NodeFigures node{.node = "n1", .time = 0, .since = 0, .berths = {}};
  double start = bench::now_ms();
  CountersReader first(true);
  std::vector<BerthCounters> baselines;
  for (const HeldBerth& berth : berths.held()) baselines.push_back(first.read(berth.record, berth.netns));
  report("stats at exit", "first reading", count, "ms", bench::now_ms() - start);
  start = bench::now_ms();
  CountersReader last(true);
  for (std::size_t i = 0; i < count; ++i) {
    const HeldBerth& berth = berths.held()[i];
    node.berths.push_back(
        {make_labels(berth.record), difference(last.read(berth.record, berth.netns), baselines[i]), {}});
  }
  const std::string text = make_summary(node);
  report("stats at exit", "last reading and summary", count, "ms", bench::now_ms() - start);
  if (text.empty()) throw Error(ErrorCode::host, "cannot measure", "there is no summary");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: bench_stats BERTH SECONDS ROUNDS\n");
    return 2;
  }
  try {
    berth::bench::enter_site();
    for (const std::size_t count : {1U, 32U, 128U}) {
      berth::bench::Berths berths;
      {
        berth::bench::Crowd ranks(
            static_cast<int>(count), [](int) {}, [&](int i) { berths.enter(static_cast<std::size_t>(i)); });
        berths.acquire(count, ranks.pids());
        ranks.run_until_done();
        for (int round = 0; round < std::atoi(argv[3]); ++round) {
          measure_readings(berths);
          if (round < 3) report("stats", "berth stats --watch 1", count, "percent", watch(argv[1], std::atoi(argv[2])));
        }
      }
      berths.release_all();
      berths.unpark_all();
    }
    return 0;
  } catch (const berth::Error& error) {
    fmt::print(stderr, "{}\n", error.render());
    return 1;
  }
}
