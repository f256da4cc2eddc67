#include "launcher/system/polling.hpp"

#include <algorithm>
#include <thread>

namespace berth {

bool poll_until(std::chrono::milliseconds patience, const std::function<bool()>& is_so) {
  using Clock = std::chrono::steady_clock;
  constexpr Clock::duration longest_pause = std::chrono::milliseconds{128};
  const auto deadline = Clock::now() + patience;
  for (Clock::duration pause = std::chrono::milliseconds{1};; pause = std::min(2 * pause, longest_pause)) {
    const auto left = deadline - Clock::now();
    if (is_so()) return true;
    if (left <= Clock::duration::zero()) return false;
    std::this_thread::sleep_for(std::min(pause, left));
  }
}

}  // namespace berth
