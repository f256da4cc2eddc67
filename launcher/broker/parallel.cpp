#include "launcher/broker/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <utility>
#include <vector>

namespace berth {

namespace {
/// More would only queue up for the kernel's RTNL lock.
constexpr std::size_t kMostThreads = 64;
}  // namespace

void run_in_parallel(std::size_t count, const std::function<void(std::size_t)>& body) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) body(i);
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 1; i < std::min(count, kMostThreads); ++i) threads.emplace_back(work);
  work();
}

void run_in_parallel(const std::vector<std::string>& groups, const std::function<void(std::size_t)>& body) {
  std::map<std::string, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < groups.size(); ++i) members[groups[i]].push_back(i);
  std::vector<std::vector<std::size_t>> rows;
  for (auto& [group, row] : members) rows.push_back(std::move(row));
  run_in_parallel(rows.size(), [&](std::size_t row) {
    for (const std::size_t i : rows[row]) body(i);
  });
}

}  // namespace berth
