#include "launcher/system/link_addresses.hpp"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netpacket/packet.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "launcher/system/fd.hpp"

namespace berth {

namespace {

template <typename Address>
std::span<const std::uint8_t> bytes_of(const Address& address) {
  return {reinterpret_cast<const std::uint8_t*>(&address), sizeof address};
}

IpPrefix make_prefix(IpPrefix::Family family, std::span<const std::uint8_t> address,
                     std::span<const std::uint8_t> mask) {
  IpPrefix prefix{.family = family, .bytes = {}, .prefix_length = 0};
  std::ranges::copy(address, prefix.bytes.begin());
  for (const std::uint8_t byte : mask) prefix.prefix_length += static_cast<std::uint8_t>(std::popcount(byte));
  return prefix;
}

}  // namespace

LinkAddresses read_link_addresses(const std::string& name) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0)
    throw system_error(errno, fmt::format("cannot look at network device '{}'", name), "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, &freeifaddrs);
  LinkAddresses link;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (name != entry->ifa_name || entry->ifa_addr == nullptr) continue;
    if (entry->ifa_addr->sa_family == AF_PACKET) {
      const auto& hardware = *reinterpret_cast<const sockaddr_ll*>(entry->ifa_addr);
      if (hardware.sll_halen == link.mac.size()) std::memcpy(link.mac.data(), hardware.sll_addr, link.mac.size());
    } else if (entry->ifa_addr->sa_family == AF_INET && entry->ifa_netmask != nullptr) {
      link.addresses.push_back(
          make_prefix(IpPrefix::Family::v4, bytes_of(reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr),
                      bytes_of(reinterpret_cast<const sockaddr_in*>(entry->ifa_netmask)->sin_addr)));
    } else if (entry->ifa_addr->sa_family == AF_INET6 && entry->ifa_netmask != nullptr) {
      link.addresses.push_back(
          make_prefix(IpPrefix::Family::v6, bytes_of(reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr),
                      bytes_of(reinterpret_cast<const sockaddr_in6*>(entry->ifa_netmask)->sin6_addr)));
    }
  }
  return link;
}

}  // namespace berth
