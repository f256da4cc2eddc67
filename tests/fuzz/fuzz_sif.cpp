// Image headers from a hostile file: whatever the bytes, they are refused, or say where inside the file the image is.
#include <cstddef>
#include <cstdint>
#include <string>

#include "launcher/core/error.hpp"
#include "launcher/image/sif.hpp"
#include "launcher/image/squashfs.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto read = [&](std::uint64_t offset, std::size_t length) {
    return offset < bytes.size() ? bytes.substr(offset, length) : std::string();
  };
  try {
    const berth::ImageExtent extent = berth::parse_sif("fuzz", bytes.size(), read, "");
    if (extent.offset > size || extent.size > size - extent.offset) __builtin_trap();
    berth::parse_squashfs("fuzz", read(extent.offset, berth::kSquashfsSuperblockSize), extent.size);
  } catch (const berth::Error& error) {
    if (error.why.empty()) __builtin_trap();
  }
  try {
    if (berth::parse_squashfs("fuzz", bytes, size) > size) __builtin_trap();
  } catch (const berth::Error&) {
    return 0;
  }
  return 0;
}
