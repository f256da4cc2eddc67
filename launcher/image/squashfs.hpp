// The squashfs superblock: enough of it to tell a damaged or foreign image from one that can be mounted.
#pragma once

#include <string>
#include <string_view>

#include "launcher/image/sif.hpp"

namespace berth {

constexpr std::size_t kSquashfsSuperblockSize = 96;  ///< bytes

/// Whether a file system that begins with `start` calls itself squashfs (in either byte order).
bool is_squashfs(std::string_view start);

/// Checks the superblock of a file system that has `available` bytes, and returns how many of them it uses. `path` is
/// for messages. Throws Error{image} that says what is wrong.
std::uint64_t parse_squashfs(const std::string& path, std::string_view start, std::uint64_t available);

}  // namespace berth
