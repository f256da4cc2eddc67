#include "launcher/image/sif.hpp"

#include <catch2/catch_test_macros.hpp>
#include <limits>

#include "launcher/image/squashfs.hpp"
#include "tests/error_of.hpp"
#include "tests/sif_writer.hpp"

using namespace berth;
using berth::testing::kSifData;
using berth::testing::kSifTable;
using berth::testing::make_sif_head;
using berth::testing::put_number;
using berth::testing::SifObject;

namespace {

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

SifObject root_object() { return {.offset = kSifData, .size = 8192}; }

ImageExtent parse(const std::string& bytes, std::string_view architecture = "02") {
  const auto read = [&](std::uint64_t offset, std::size_t length) {
    return offset < bytes.size() ? bytes.substr(offset, length) : std::string();
  };
  return parse_sif("a.sif", bytes.size(), read, architecture);
}

std::string with_data(std::string head, std::size_t size = 8192) { return std::move(head) + std::string(size, 'x'); }

std::string refusal(const std::string& bytes, std::string_view architecture = "02") {
  const Error error = testing::error_of([&] { parse(bytes, architecture); });
  CHECK(error.code == ErrorCode::image);
  CHECK_FALSE(error.fix.empty());
  return error.why;
}

bool mentions(const std::string& text, std::string_view part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return true;
}

std::string superblock() {
  std::string bytes(kSquashfsSuperblockSize, '\0');
  bytes.replace(0, 4, "hsqs");
  put_number(bytes, 4, 7, 4);
  put_number(bytes, 12, 131072, 4);
  put_number(bytes, 20, 1, 2);
  put_number(bytes, 22, 17, 2);
  put_number(bytes, 28, 4, 2);
  put_number(bytes, 40, 4096, 8);
  return bytes;
}

std::string squashfs_refusal(const std::string& bytes, std::uint64_t available = 8192) {
  const Error error = testing::error_of([&] { parse_squashfs("a.sqsh", bytes, available); });
  CHECK(error.code == ErrorCode::image);
  return error.why;
}

std::string changed(std::size_t at, std::uint64_t value, std::size_t width) {
  std::string bytes = superblock();
  put_number(bytes, at, value, width);
  return bytes;
}

}  // namespace

TEST_CASE("the primary system partition of a SIF is found among other objects") {
  const SifObject signature{.type = 0x4005, .offset = kHuge, .size = kHuge};
  const SifObject overlay{.offset = kSifData + 8192, .size = 512, .file_system = 2, .partition_type = 4};
  const SifObject deleted{.offset = kSifData, .size = 8192, .used = false};
  const std::string bytes = with_data(make_sif_head({signature, deleted, overlay, root_object()}), 8704);
  CHECK(parse(bytes) == ImageExtent{kSifData, 8192});
  CHECK(parse(bytes, "") == ImageExtent{kSifData, 8192});
}

TEST_CASE("a SIF whose header is wrong is refused") {
  const std::string good = with_data(make_sif_head({root_object()}));
  mentions(refusal(""), "header ends after 0 bytes");
  mentions(refusal(good.substr(0, 100)), "header ends after 100 bytes");
  mentions(refusal(std::string(200, 'x')), "SIF_MAGIC");
  mentions(refusal(with_data(make_sif_head({root_object()}, "02"))), "version '02'");
  for (const std::uint64_t count : {std::uint64_t{1} << 63, kHuge, std::uint64_t{4097}}) {
    std::string bytes = good;
    put_number(bytes, 88, count, 8);
    mentions(refusal(bytes), "descriptors");
  }
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{127}, kHuge, kHuge - 48 * 585 + 1}) {
    std::string bytes = good;
    put_number(bytes, 96, offset, 8);
    mentions(refusal(bytes), "table");
  }
  mentions(refusal(good.substr(0, kSifTable + 10)), "table");
}

TEST_CASE("SIF partitions outside the file or over each other are refused") {
  const auto place = [](std::uint64_t offset, std::uint64_t size) {
    SifObject object = root_object();
    object.offset = offset;
    object.size = size;
    return refusal(with_data(make_sif_head({object})));
  };
  mentions(place(kSifData, 8193), "outside the file");
  mentions(place(kSifData, 0), "outside the file");
  mentions(place(0, 100), "outside the file");
  mentions(place(kSifData, kHuge), "outside the file");
  mentions(place(kHuge - 4095, 8192), "outside the file");
  mentions(place(std::uint64_t{1} << 63, 1), "outside the file");
  SifObject second = root_object();
  second.partition_type = 3;
  second.offset += 4096;
  second.size = 1;
  mentions(refusal(with_data(make_sif_head({root_object(), second}))), "overlap");
}

TEST_CASE("a SIF without exactly one usable root file system is refused") {
  mentions(refusal(with_data(make_sif_head({}))), "no primary system partition");
  SifObject second = root_object();
  second.offset += 8192;
  mentions(refusal(with_data(make_sif_head({root_object(), second}), 16384)), "2 primary system partitions");
  SifObject changed_object = root_object();
  changed_object.file_system = 2;
  mentions(refusal(with_data(make_sif_head({changed_object}))), "ext3");
  changed_object.file_system = 5;
  mentions(refusal(with_data(make_sif_head({changed_object}))), "encrypted");
  changed_object.file_system = 77;
  mentions(refusal(with_data(make_sif_head({changed_object}))), "type 77");
  mentions(refusal(with_data(make_sif_head({root_object()})), "04"), "amd64 (code '02'), this node is arm64");
  mentions(refusal(with_data(make_sif_head({{.type = 0x400a}}))), "OCI-SIF");
}

TEST_CASE("names in a SIF cannot forge messages") {
  SifObject object = root_object();
  object.name = "a\n  fix: rm\x1b[2J";
  object.size = kHuge;
  const std::string text = testing::error_of([&] { parse(with_data(make_sif_head({object}))); }).render();
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("\n  fix: rm") == std::string::npos);
}

TEST_CASE("a squashfs superblock is checked") {
  CHECK(parse_squashfs("a.sqsh", superblock(), 4096) == 4096);
  mentions(squashfs_refusal(superblock(), 4095), "truncated");
  mentions(squashfs_refusal(superblock().substr(0, 95)), "truncated");
  mentions(squashfs_refusal("sqsh" + superblock().substr(4)), "big-endian");
  mentions(squashfs_refusal(std::string(96, '\0')), "no squashfs");
  mentions(squashfs_refusal(changed(28, 3, 2)), "version 3.0");
  mentions(squashfs_refusal(changed(20, 9, 2)), "compressor number 9");
  mentions(squashfs_refusal(changed(20, 0, 2)), "compressor number 0");
  mentions(squashfs_refusal(changed(20, 2, 2)), "lzma");
  mentions(squashfs_refusal(changed(12, 131073, 4)), "block size");
  mentions(squashfs_refusal(changed(12, std::uint64_t{1} << 31, 4)), "block size");
  mentions(squashfs_refusal(changed(22, 16, 2)), "logarithm 16");
  mentions(squashfs_refusal(changed(4, 0, 4)), "no inodes");
  mentions(squashfs_refusal(changed(40, kHuge, 8)), "truncated");
  mentions(squashfs_refusal(changed(40, 95, 8)), "95 bytes");
}
