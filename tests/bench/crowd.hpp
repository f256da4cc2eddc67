// Many processes that begin at the same moment, and how long they take.
#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth::bench {

/// `count` child processes that wait at a gate. Each runs `prepare(i)` before it and `body(i)` behind it; a body may
/// exec. Ends all that still live in the destructor.
class Crowd {
 public:
  Crowd(int count, const std::function<void(int)>& prepare, const std::function<void(int)>& body);
  ~Crowd();
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  /// Opens the gate and returns the milliseconds until every process has ended. Throws Error{internal} if one of them
  /// ended with another code than 0.
  double run_until_ended();
  /// Opens the gate and returns the milliseconds until every body has returned; the processes stay until they are let
  /// go by the destructor. Throws Error{internal} if one of them failed.
  double run_until_done();

  [[nodiscard]] const std::vector<int>& pids() const { return pids_; }

 private:
  /// When it was opened, as now_ms().
  double open_gate();

  std::vector<pid_t> pids_;
  UniqueFd gate_;  // closing it lets them through
  UniqueFd ready_;
  UniqueFd done_;
};

/// Milliseconds of the monotonic clock.
double now_ms();

}  // namespace berth::bench
