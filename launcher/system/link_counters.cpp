#include "launcher/system/link_counters.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include "launcher/system/fd.hpp"

namespace berth {

std::optional<LinkCounters> read_link_counters(const std::string& interface) {
  return parse_link_counters(read_file(AT_FDCWD, "/proc/thread-self/net/dev"), interface);
}

std::optional<LinkCounters> read_link_counters_of(int pid, const std::string& interface) {
  std::string text;
  try {
    text = read_file(AT_FDCWD, fmt::format("/proc/{}/net/dev", pid));
  } catch (const Error&) {
    return std::nullopt;
  }
  return parse_link_counters(text, interface);
}

}  // namespace berth
