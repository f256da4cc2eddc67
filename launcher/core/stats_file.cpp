#include "launcher/core/stats_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace berth {

std::string find_pattern_error(std::string_view pattern) {
  if (std::ranges::any_of(pattern, [](unsigned char c) { return std::iscntrl(c) != 0; }))
    return "it has control characters";
  for (std::size_t at = pattern.find('%'); at != std::string_view::npos; at = pattern.find('%', at + 2)) {
    const std::string_view code = pattern.substr(at, 2);
    if (code != "%N" && code != "%j" && code != "%s" && code != "%%")
      return fmt::format("'{}' stands for nothing", code);
  }
  return {};
}

std::string expand_stats_pattern(std::string_view pattern, std::string_view node, std::uint32_t job,
                                 std::uint32_t step) {
  std::string name;
  bool names_node = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] != '%' || at + 1 == pattern.size()) {
      name += pattern[at];
      continue;
    }
    const char code = pattern[++at];
    names_node = names_node || code == 'N';
    name += code == 'N'   ? std::string(node)
            : code == 'j' ? std::to_string(job)
            : code == 's' ? std::to_string(step)
                          : "%";
  }
  return names_node ? name : fmt::format("{}.{}", name, node);
}

}  // namespace berth
