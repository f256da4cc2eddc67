// Loop devices that vanish with their last user.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

struct LoopDevice {
  UniqueFd fd;       ///< keeps the device until somebody else (a mount) holds it
  std::string path;  ///< "/dev/loop7"
};

/// A read-only, self-clearing loop device over `size` bytes (a multiple of 512) from `offset` of the open file. `name`
/// is what losetup shows. Throws Error{host}.
LoopDevice attach_loop(int file, std::uint64_t offset, std::uint64_t size, const std::string& name);

}  // namespace berth
