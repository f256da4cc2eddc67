#include "launcher/broker/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <thread>
#include <utility>
#include <vector>

namespace berth {

namespace {
/// More would only queue up for the kernel's RTNL lock.
constexpr std::size_t kMostThreads = 64;

/// What each body has thrown.
class Failures {
 public:
  explicit Failures(std::size_t count) : errors_(count) {}
  /// Of different `i`, by several threads.
  void attempt(const std::function<void(std::size_t)>& body, std::size_t i) {
    try {
      body(i);
    } catch (...) {
      errors_[i] = std::current_exception();
    }
  }
  void rethrow_first() const {
    for (const std::exception_ptr& error : errors_)
      if (error) std::rethrow_exception(error);
  }

 private:
  std::vector<std::exception_ptr> errors_;
};

}  // namespace

void run_in_parallel(std::size_t count, const std::function<void(std::size_t)>& body) {
  Failures failures(count);
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) failures.attempt(body, i);
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < std::min(count, kMostThreads); ++i) threads.emplace_back(work);
    work();
  }
  failures.rethrow_first();
}

void run_in_parallel(const std::vector<std::string>& groups, const std::function<void(std::size_t)>& body) {
  std::map<std::string, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < groups.size(); ++i) members[groups[i]].push_back(i);
  std::vector<std::vector<std::size_t>> rows;
  for (auto& [group, row] : members) rows.push_back(std::move(row));
  Failures failures(groups.size());
  run_in_parallel(rows.size(), [&](std::size_t row) {
    for (const std::size_t i : rows[row]) failures.attempt(body, i);
  });
  failures.rethrow_first();
}

}  // namespace berth
