#include "launcher/core/char_devices.hpp"

#include <algorithm>
#include <charconv>

namespace berth {

std::vector<CharMajor> parse_char_majors(std::string_view text) {
  std::vector<CharMajor> majors;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.starts_with("Block")) break;
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    unsigned major = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), major);
    const std::string_view name(end, static_cast<std::size_t>(line.data() + line.size() - end));
    if (error == std::errc{} && name.size() > 1 && name.front() == ' ')
      majors.push_back({major, std::string(name.substr(1))});
  }
  return majors;
}

std::optional<unsigned> find_char_major(const std::vector<CharMajor>& majors, std::string_view name) {
  const auto found = std::ranges::find(majors, name, &CharMajor::name);
  return found == majors.end() ? std::nullopt : std::optional(found->major);
}

}  // namespace berth
