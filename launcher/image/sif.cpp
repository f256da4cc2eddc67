#include "launcher/image/sif.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "launcher/core/error.hpp"
#include "launcher/image/bytes.hpp"

namespace berth {

namespace {

// The header: a line for the shell, then fixed fields; numbers are signed 64-bit in the format, but a negative one is
// as wrong as a huge one, so they are read as unsigned. Offsets and sizes are in bytes.
constexpr std::string_view kMagic{"SIF_MAGIC\0", 10};
constexpr std::size_t kMagicAt = 32;
constexpr std::size_t kVersionAt = 42;
constexpr std::size_t kDescriptorCountAt = 88;
constexpr std::size_t kTableOffsetAt = 96;
constexpr std::size_t kHeaderSize = 128;
constexpr std::uint64_t kDescriptorLimit = 4096;  // writers reserve 48; a table must not eat memory

// A descriptor: packed.
constexpr std::size_t kDescriptorSize = 585;
constexpr std::size_t kUsedAt = 4;
constexpr std::size_t kObjectOffsetAt = 17;
constexpr std::size_t kObjectSizeAt = 25;
constexpr std::size_t kNameAt = 73;
constexpr std::size_t kNameSize = 128;
constexpr std::size_t kFileSystemAt = 201;
constexpr std::size_t kPartitionTypeAt = 205;
constexpr std::size_t kArchitectureAt = 209;

constexpr std::uint32_t kPartition = 0x4004;
constexpr std::uint32_t kOciRootIndex = 0x400a;
constexpr std::uint32_t kPrimarySystem = 2;
constexpr std::uint32_t kSquashfs = 1;
constexpr std::uint32_t kExt3 = 2;
constexpr std::uint32_t kEncryptedSquashfs = 5;

struct Partition {
  ImageExtent extent;
  std::uint32_t file_system = 0;
  bool primary = false;
  std::string architecture;
  std::string name;
};

std::string_view until_zero(std::string_view text) { return text.substr(0, text.find('\0')); }

std::string_view architecture_name(std::string_view code) {
  constexpr std::string_view names[] = {"unknown", "386",    "amd64",  "arm",      "arm64", "ppc64",  "ppc64le",
                                        "mips",    "mipsle", "mips64", "mips64le", "s390x", "riscv64"};
  if (code.size() != 2 || code[0] < '0' || code[0] > '9' || code[1] < '0' || code[1] > '9') return "unknown";
  const auto index = static_cast<std::size_t>(code[0] - '0') * 10 + static_cast<std::size_t>(code[1] - '0');
  return index < std::size(names) ? names[index] : "unknown";
}

// One parse: keeps what every message needs.
class SifParser {
 public:
  SifParser(const std::string& path, std::uint64_t file_size, const ReadAt& read_at)
      : path_(path), file_size_(file_size), read_at_(read_at) {}

  ImageExtent parse(std::string_view architecture) const {
    const std::vector<Partition> partitions = read_partitions();
    check_overlaps(partitions);
    const auto is_primary = [](const Partition& partition) { return partition.primary; };
    const auto count = std::count_if(partitions.begin(), partitions.end(), is_primary);
    if (count != 1)
      throw refuse(count == 0 ? std::string("this SIF has no primary system partition")
                              : fmt::format("this SIF has {} primary system partitions", count),
                   "build it again with apptainer or singularity");
    const Partition& primary = *std::find_if(partitions.begin(), partitions.end(), is_primary);
    check_usable(primary, architecture);
    return primary.extent;
  }

 private:
  Error refuse(std::string why, std::string fix) const {
    return {ErrorCode::image, fmt::format("cannot use image '{}'", path_), std::move(why), std::move(fix)};
  }
  Error corrupt(const std::string& why) const {
    return refuse("this SIF is corrupt: " + why, "copy or build it again");
  }

  // offset + size never overflows here: both are compared with what is left of the file.
  bool fits(std::uint64_t offset, std::uint64_t size) const {
    return offset <= file_size_ && size <= file_size_ - offset;
  }

  std::string read_table() const {
    const std::string header = read_at_(0, kHeaderSize);
    if (header.size() < kHeaderSize) throw corrupt(fmt::format("its header ends after {} bytes", header.size()));
    if (!is_sif(header)) throw corrupt("its header lacks the mark SIF_MAGIC");
    if (const auto version = until_zero(std::string_view(header).substr(kVersionAt, 3)); version != "01")
      throw refuse(fmt::format("this SIF has format version '{}', not '01'", version), "build it with apptainer 1.x");
    const auto count = little_endian<std::uint64_t>(header, kDescriptorCountAt);
    const auto offset = little_endian<std::uint64_t>(header, kTableOffsetAt);
    if (count > kDescriptorLimit) throw corrupt(fmt::format("it claims to have {} descriptors", count));
    const auto size = count * kDescriptorSize;
    if (offset < kHeaderSize || !fits(offset, size))
      throw corrupt(fmt::format("its descriptor table ({} bytes at {}) lies outside the file", size, offset));
    std::string table = read_at_(offset, size);
    if (table.size() < size) throw corrupt("its descriptor table is truncated");
    return table;
  }

  std::vector<Partition> read_partitions() const {
    const std::string table = read_table();
    std::vector<Partition> partitions;
    for (std::size_t at = 0; at < table.size(); at += kDescriptorSize) {
      const std::string_view descriptor = std::string_view(table).substr(at, kDescriptorSize);
      if (descriptor[kUsedAt] == 0) continue;
      const auto type = little_endian<std::uint32_t>(descriptor, 0);
      if (type == kOciRootIndex)
        throw refuse("this is an OCI-SIF: it holds OCI layers instead of a root file system",
                     "build a native SIF, for example with 'apptainer build'");
      if (type != kPartition) continue;
      Partition partition;
      partition.extent = {little_endian<std::uint64_t>(descriptor, kObjectOffsetAt),
                          little_endian<std::uint64_t>(descriptor, kObjectSizeAt)};
      partition.file_system = little_endian<std::uint32_t>(descriptor, kFileSystemAt);
      partition.primary = little_endian<std::uint32_t>(descriptor, kPartitionTypeAt) == kPrimarySystem;
      partition.architecture = until_zero(descriptor.substr(kArchitectureAt, 3));
      partition.name = until_zero(descriptor.substr(kNameAt, kNameSize));
      if (partition.extent.offset < kHeaderSize || partition.extent.size == 0 ||
          !fits(partition.extent.offset, partition.extent.size))
        throw corrupt(fmt::format("its partition '{}' ({} bytes at {}) lies outside the file of {} bytes",
                                  partition.name, partition.extent.size, partition.extent.offset, file_size_));
      partitions.push_back(std::move(partition));
    }
    return partitions;
  }

  void check_overlaps(std::vector<Partition> partitions) const {
    std::sort(partitions.begin(), partitions.end(),
              [](const Partition& a, const Partition& b) { return a.extent.offset < b.extent.offset; });
    for (std::size_t i = 1; i < partitions.size(); ++i)
      if (partitions[i].extent.offset - partitions[i - 1].extent.offset < partitions[i - 1].extent.size)
        throw corrupt(fmt::format("its partitions '{}' and '{}' overlap", partitions[i - 1].name, partitions[i].name));
  }

  void check_usable(const Partition& primary, std::string_view architecture) const {
    if (primary.file_system == kEncryptedSquashfs)
      throw refuse("its root file system is encrypted, which Berth does not support", "build it without --encrypt");
    if (primary.file_system != kSquashfs)
      throw refuse(primary.file_system == kExt3
                       ? std::string("its root file system is ext3: not safe to mount for users")
                       : fmt::format("its root file system has type {}, not squashfs", primary.file_system),
                   "build it again with apptainer, which makes squashfs");
    if (!architecture.empty() && primary.architecture != architecture)
      throw refuse(
          fmt::format("it was built for {} (code '{}'), this node is {}", architecture_name(primary.architecture),
                      primary.architecture, architecture_name(architecture)),
          fmt::format("build it for {}", architecture_name(architecture)));
  }

  const std::string& path_;
  std::uint64_t file_size_;
  const ReadAt& read_at_;
};

}  // namespace

bool is_sif(std::string_view start) {
  return start.size() >= kMagicAt + kMagic.size() && start.substr(kMagicAt, kMagic.size()) == kMagic;
}

std::string_view native_sif_architecture() {
#if defined(__x86_64__)
  return "02";
#elif defined(__aarch64__)
  return "04";
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
  return "06";
#elif defined(__s390x__)
  return "11";
#elif defined(__riscv) && __riscv_xlen == 64
  return "12";
#else
  return "";
#endif
}

ImageExtent parse_sif(const std::string& path, std::uint64_t file_size, const ReadAt& read_at,
                      std::string_view architecture) {
  return SifParser(path, file_size, read_at).parse(architecture);
}

}  // namespace berth
