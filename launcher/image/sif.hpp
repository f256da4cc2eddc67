// The Singularity Image Format: a header, a table of descriptors, and data objects, one of which is the root file
// system.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace berth {

/// Returns up to `length` bytes from `offset` of the image; fewer only at its end.
using ReadAt = std::function<std::string(std::uint64_t offset, std::size_t length)>;

/// Part of an image file, in bytes.
struct ImageExtent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool operator==(const ImageExtent&) const = default;
};

/// Whether an image that begins with `start` (at least 42 bytes) calls itself SIF.
bool is_sif(std::string_view start);

/// The SIF code of the architecture this was compiled for ("02" is amd64); "" if SIF has none.
std::string_view native_sif_architecture();

/// Finds the one primary system partition, which must be a squashfs for `architecture` (a SIF code; "": any).
/// `path` is for messages. Throws Error{image} that says what is wrong.
ImageExtent parse_sif(const std::string& path, std::uint64_t file_size, const ReadAt& read_at,
                      std::string_view architecture);

}  // namespace berth
