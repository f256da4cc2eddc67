#include "launcher/core/text_position.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace berth {

std::string position_in(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  return fmt::format("{}:{}", line, newline == std::string_view::npos ? before.size() + 1 : before.size() - newline);
}

}  // namespace berth
