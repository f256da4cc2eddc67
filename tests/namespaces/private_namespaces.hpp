// The ground that these tests stand on: mount and network namespaces of their own, so that the machine stays untouched.
#pragma once

#include <signal.h>

#include <chrono>
#include <functional>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth::testing {

/// Puts this process into a mount namespace of its own and into a new, empty network namespace. Without root the test
/// case is skipped, or fails if BERTH_TESTS_MUST_RUN=1.
void enter_private_namespaces();

/// Runs a shell command and requires it to succeed.
void run(const std::string& command);

/// Runs `body(0)` … `body(count - 1)` in as many processes at once; how many of them returned true.
int count_successes(int count, const std::function<bool(int)>& body);

/// Repeats `body` in a process that is killed after this time.
void kill_while_repeating(const std::function<void()>& body, std::chrono::nanoseconds delay);

/// A tmpfs of its own; unmounted and removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A child process that runs `body` and then waits to be ended; the constructor returns when `body` is done. The child
/// is killed at the end if it still lives.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  [[nodiscard]] int pid() const { return pid_; }
  /// Whether it has been ended by SIGKILL; waits for an end that must have come already.
  bool was_killed();
  [[nodiscard]] bool is_alive() const { return pid_ > 0 && ::kill(pid_, 0) == 0; }
  void kill();

 private:
  int pid_ = -1;
};

}  // namespace berth::testing
