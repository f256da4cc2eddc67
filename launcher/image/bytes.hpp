// Little-endian numbers in image headers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace berth {

/// The unsigned little-endian number of sizeof(Number) bytes at `offset`. Throws std::out_of_range beyond the end.
template <typename Number>
Number little_endian(std::string_view bytes, std::size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(Number)) throw std::out_of_range("little_endian");
  std::uint64_t value = 0;
  for (std::size_t i = sizeof(Number); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return static_cast<Number>(value);
}

}  // namespace berth
