// Loop devices that vanish with their last user.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

/// A loop device has whole sectors: bytes that one needs for `size` bytes. A file that ends within a sector loses the
/// rest of it (mksquashfs -nopad makes such files).
constexpr std::uint64_t round_up_to_sector(std::uint64_t size) {
  constexpr std::uint64_t kSector = 512;  // bytes
  return (size + kSector - 1) / kSector * kSector;
}

struct LoopDevice {
  UniqueFd fd;       ///< keeps the device until somebody else (a mount) holds it
  std::string path;  ///< "/dev/loop7"
};

/// A read-only, self-clearing loop device over `size` bytes (a multiple of 512) from `offset` of the open file. `name`
/// is what losetup shows. Throws Error{host}.
LoopDevice attach_loop(int file, std::uint64_t offset, std::uint64_t size, const std::string& name);

}  // namespace berth
