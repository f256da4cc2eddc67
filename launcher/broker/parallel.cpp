#include "launcher/broker/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
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

}  // namespace berth
