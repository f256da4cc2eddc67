#include "tests/bench/crowd.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

namespace berth::bench {

namespace {

std::pair<UniqueFd, UniqueFd> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw system_error(errno, "cannot start the processes", "pipe2");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

constexpr char kGood = 'g';
constexpr char kBad = 'b';

/// Reads `count` bytes, one from each process; false if one of them has failed.
bool await_all(const UniqueFd& pipe, std::size_t count) {
  std::array<char, 256> bytes{};
  while (count > 0) {
    const ssize_t n = read(pipe.get(), bytes.data(), std::min(count, bytes.size()));
    if (n == 0 || (n < 0 && errno != EINTR)) return false;
    if (n < 0) continue;
    count -= static_cast<std::size_t>(n);
    if (std::find(bytes.begin(), bytes.begin() + n, kBad) != bytes.begin() + n) return false;
  }
  return true;
}

void report(const UniqueFd& pipe, char state) {
  if (write(pipe.get(), &state, 1) != 1) _exit(1);
}

}  // namespace

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Crowd::Crowd(int count, const std::function<void(int)>& prepare, const std::function<void(int)>& body) {
  auto [gate_out, gate_in] = make_pipe();
  auto [ready_out, ready_in] = make_pipe();
  auto [done_out, done_in] = make_pipe();
  for (int i = 0; i < count; ++i) {
    const pid_t pid = fork();
    if (pid < 0) throw system_error(errno, "cannot start the processes", "fork");
    if (pid > 0) {
      pids_.push_back(pid);
      continue;
    }
    gate_in.reset();
    try {
      prepare(i);
      report(ready_in, kGood);
      char byte = 0;
      if (read(gate_out.get(), &byte, 1) < 0) _exit(1);
      body(i);
      report(done_in, kGood);
    } catch (const Error& error) {
      fmt::print(stderr, "bench_launch: {}\n", error.render());
      report(ready_in, kBad);
      report(done_in, kBad);
      _exit(1);
    }
    for (;;) pause();
  }
  gate_ = std::move(gate_in);
  ready_ = std::move(ready_out);
  done_ = std::move(done_out);
}

Crowd::~Crowd() {
  for (const pid_t pid : pids_) kill(pid, SIGKILL);
  for (const pid_t pid : pids_) waitpid(pid, nullptr, 0);
}

double Crowd::open_gate() {
  if (!await_all(ready_, pids_.size())) throw Error(ErrorCode::internal, "cannot measure", "a process failed");
  const double start = now_ms();
  gate_.reset();
  return start;
}

double Crowd::run_until_ended() {
  const double start = open_gate();
  bool good = true;
  for (const pid_t pid : pids_) {
    int status = 0;
    good = waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 && good;
  }
  const double end = now_ms();
  pids_.clear();
  if (!good) throw Error(ErrorCode::internal, "cannot measure", "a process failed");
  return end - start;
}

double Crowd::run_until_done() {
  const double start = open_gate();
  if (!await_all(done_, pids_.size())) throw Error(ErrorCode::internal, "cannot measure", "a process failed");
  return now_ms() - start;
}

}  // namespace berth::bench
