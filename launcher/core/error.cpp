#include "launcher/core/error.hpp"

#include <fmt/core.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace berth {
namespace {

/// Length in bytes of the well-formed UTF-8 sequence that `text` starts with, its code point in `code_point`; 0 if
/// none.
std::size_t decode_utf8(std::string_view text, std::uint32_t& code_point) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) {
    code_point = lead;
    return 1;
  }
  std::size_t length = 0;
  std::uint32_t smallest = 0;
  if ((lead & 0xe0U) == 0xc0) {
    length = 2;
    smallest = 0x80;
    code_point = lead & 0x1fU;
  } else if ((lead & 0xf0U) == 0xe0) {
    length = 3;
    smallest = 0x800;
    code_point = lead & 0x0fU;
  } else if ((lead & 0xf8U) == 0xf0) {
    length = 4;
    smallest = 0x10000;
    code_point = lead & 0x07U;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (std::size_t index = 1; index < length; ++index) {
    if ((byte(index) & 0xc0U) != 0x80) return 0;
    code_point = code_point << 6 | (byte(index) & 0x3fU);
  }
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  return code_point < smallest || code_point > 0x10ffff || surrogate ? 0 : length;
}

/// Whether a terminal would act on it, or show it in a place where it does not stand.
bool is_unsafe(std::uint32_t code_point) {
  return code_point < 0x20 || (code_point >= 0x7f && code_point <= 0x9f) ||  // C0, DEL, C1
         code_point == 0x061c || code_point == 0x200e || code_point == 0x200f ||
         (code_point >= 0x2028 && code_point <= 0x202e) ||  // line and paragraph separators, bidi embeddings
         (code_point >= 0x2066 && code_point <= 0x2069);    // bidi isolates
}

}  // namespace

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::usage:
      return "usage";
    case ErrorCode::policy:
      return "policy";
    case ErrorCode::image:
      return "image";
    case ErrorCode::busy:
      return "busy";
    case ErrorCode::host:
      return "host";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorCode code_, std::string what_, std::string why_, std::string fix_)
    : code(code_), what_text(std::move(what_)), why(std::move(why_)), fix(std::move(fix_)) {}

std::string Error::render() const {
  std::string text = "berth: " + escape_for_terminal(what_text);
  if (!why.empty()) text += "\n  why: " + escape_for_terminal(why);
  if (!fix.empty()) text += "\n  fix: " + escape_for_terminal(fix);
  return text;
}

std::string escape_for_terminal(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(text, code_point);
    if (length > 0 && !is_unsafe(code_point)) {
      escaped += text.substr(0, length);
    } else {
      for (const char c : text.substr(0, length > 0 ? length : 1)) {
        escaped += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(length > 0 ? length : 1);
  }
  return escaped;
}

}  // namespace berth
