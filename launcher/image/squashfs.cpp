#include "launcher/image/squashfs.hpp"

#include <fmt/format.h>

#include <array>
#include <bit>

#include "launcher/core/error.hpp"
#include "launcher/image/bytes.hpp"

namespace berth {

namespace {

constexpr std::string_view kMagic = "hsqs";
constexpr std::string_view kForeignMagic = "sqsh";  // written on a big-endian machine by squashfs 3 or older
constexpr std::uint32_t kSmallestBlock = 4096;
constexpr std::uint32_t kLargestBlock = 1 << 20;

// The kernel mounts all of them but lzma, which only ever lived outside it.
constexpr std::array<std::string_view, 7> kCompressors = {"", "gzip", "lzma", "lzo", "xz", "lz4", "zstd"};
constexpr std::uint16_t kLzma = 2;

}  // namespace

bool is_squashfs(std::string_view start) { return start.starts_with(kMagic) || start.starts_with(kForeignMagic); }

std::uint64_t parse_squashfs(const std::string& path, std::string_view start, std::uint64_t available) {
  const auto refuse = [&](std::string why, std::string fix) {
    return Error(ErrorCode::image, fmt::format("cannot use image '{}'", path), std::move(why), std::move(fix));
  };
  const std::string copy_again = "copy or build the image again";
  const std::string build_again = "build the image again with mksquashfs 4.0 or newer";
  if (start.size() < kSquashfsSuperblockSize)
    throw refuse(fmt::format("its squashfs has only {} bytes: it is truncated", start.size()), copy_again);
  if (start.starts_with(kForeignMagic))
    throw refuse("its squashfs is big-endian, which Linux no longer reads", build_again);
  if (!start.starts_with(kMagic)) throw refuse("there is no squashfs where one should begin", copy_again);

  const auto major = little_endian<std::uint16_t>(start, 28);
  const auto minor = little_endian<std::uint16_t>(start, 30);
  if (major != 4 || minor != 0)
    throw refuse(fmt::format("its squashfs has version {}.{}, not 4.0", major, minor), build_again);

  const auto compressor = little_endian<std::uint16_t>(start, 20);
  if (compressor == 0 || compressor >= kCompressors.size())
    throw refuse(fmt::format("its squashfs uses compressor number {}, which is unknown", compressor), build_again);
  if (compressor == kLzma)
    throw refuse("its squashfs is compressed with lzma, which Linux cannot mount",
                 "build it with mksquashfs -comp zstd");

  const auto block = little_endian<std::uint32_t>(start, 12);
  const auto block_log = little_endian<std::uint16_t>(start, 22);
  if (!std::has_single_bit(block) || block < kSmallestBlock || block > kLargestBlock ||
      block_log != std::countr_zero(block))
    throw refuse(fmt::format("its squashfs is corrupt: block size {}, logarithm {}", block, block_log), copy_again);

  if (little_endian<std::uint32_t>(start, 4) == 0)
    throw refuse("its squashfs is corrupt: it has no inodes", copy_again);
  const auto used = little_endian<std::uint64_t>(start, 40);
  if (used < kSquashfsSuperblockSize)
    throw refuse(fmt::format("its squashfs is corrupt: it claims to use {} bytes", used), copy_again);
  if (used > available)
    throw refuse(fmt::format("its squashfs needs {} bytes, but there are {}: it is truncated", used, available),
                 copy_again);
  return used;
}

}  // namespace berth
