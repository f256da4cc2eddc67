#include "launcher/core/hardware_addresses.hpp"

namespace berth {

namespace {

std::uint64_t make_hash(std::string_view host, std::string_view device_id) {
  // FNV-1a, then a finalizer, because its upper bits hardly differ between short texts that end differently.
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto feed = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0xffU) * 0x100000001b3;
  };
  feed(host);
  feed(device_id);
  hash = (hash ^ (hash >> 33U)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33U)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33U);
}

}  // namespace

MacAddress make_mac_address(std::string_view host, std::string_view device_id) {
  const std::uint64_t hash = make_hash(host, device_id);
  MacAddress mac;
  for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(hash >> (8 * i));
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 0x02U);
  return mac;
}

std::uint64_t make_guid(std::string_view host, std::string_view device_id) {
  constexpr unsigned kFirstByte = 56;
  const std::uint64_t hash = make_hash(host, device_id);
  return (hash & ~(std::uint64_t{0x03} << kFirstByte)) | (std::uint64_t{0x02} << kFirstByte);
}

}  // namespace berth
