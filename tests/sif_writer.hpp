// Writes SIF images, good and bad ones, field by field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth::testing {

struct SifObject {
  std::uint32_t type = 0x4004;  // partition
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint32_t file_system = 1;     // squashfs
  std::uint32_t partition_type = 2;  // primary system
  std::string architecture = "02";
  std::string name = "root";
  bool used = true;
};

inline void put_number(std::string& bytes, std::size_t at, std::uint64_t value, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
}

constexpr std::size_t kSifTable = 4096;
constexpr std::size_t kSifData = 36864;

/// Header and descriptor table, padded to where the data of the first object usually begins.
inline std::string make_sif_head(const std::vector<SifObject>& objects, std::string_view version = "01") {
  std::string bytes(kSifData, '\0');
  bytes.replace(0, 31, "#!/usr/bin/env run-singularity\n");
  bytes.replace(32, 9, "SIF_MAGIC");
  bytes.replace(42, version.size(), version);
  bytes.replace(45, 2, "02");
  put_number(bytes, 88, 48, 8);
  put_number(bytes, 96, kSifTable, 8);
  put_number(bytes, 104, 48 * 585, 8);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const SifObject& object = objects[i];
    const std::size_t at = kSifTable + i * 585;
    put_number(bytes, at, object.type, 4);
    bytes[at + 4] = object.used ? 1 : 0;
    put_number(bytes, at + 5, i + 1, 4);
    put_number(bytes, at + 17, object.offset, 8);
    put_number(bytes, at + 25, object.size, 8);
    bytes.replace(at + 73, object.name.size(), object.name);
    put_number(bytes, at + 201, object.file_system, 4);
    put_number(bytes, at + 205, object.partition_type, 4);
    bytes.replace(at + 209, object.architecture.size(), object.architecture);
  }
  return bytes;
}

/// A complete SIF around a squashfs: a definition file first, as apptainer writes it.
inline std::string make_sif(const std::string& squashfs, const std::string& architecture) {
  const SifObject definition{.type = 0x4001, .offset = 32768, .size = 10, .name = "def"};
  const SifObject root{.offset = kSifData, .size = squashfs.size(), .architecture = architecture};
  return make_sif_head({definition, root}) + squashfs;
}

}  // namespace berth::testing
