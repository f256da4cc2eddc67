#include "launcher/system/link_counters.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "launcher/system/fd.hpp"

namespace berth {

std::optional<LinkCounters> read_link_counters(const std::string& interface) {
  return parse_link_counters(read_file(AT_FDCWD, "/proc/thread-self/net/dev"), interface);
}

std::optional<std::string> read_link_table_of(int pid, std::uint64_t netns) {
  // The directory stays that of this process, whoever gets its pid later.
  const UniqueFd process(open(fmt::format("/proc/{}", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (!process || fstatat(process.get(), "ns/net", &status, 0) != 0 || status.st_ino != netns) return std::nullopt;
  try {
    return read_file(process.get(), "net/dev");
  } catch (const Error&) {  // it has ended
    return std::nullopt;
  }
}

}  // namespace berth
