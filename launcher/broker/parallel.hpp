// Several devices at once: most of the time that a device takes, somebody waits for the kernel or for a link.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace berth {

/// Runs `body(0)` to `body(count - 1)` in threads, and returns when all have ended. A body may change its thread's
/// network namespace if it changes it back. Rethrows the first, in this order, of what bodies have thrown.
void run_in_parallel(std::size_t count, const std::function<void(std::size_t)>& body);

/// The same for every entry `i` of `groups`: those of equal entries one after the other, in their order. For devices
/// in one netns: a thread that is in it for a moment would look like a process that was left behind.
void run_in_parallel(const std::vector<std::string>& groups, const std::function<void(std::size_t)>& body);

}  // namespace berth
