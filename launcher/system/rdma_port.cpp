#include "launcher/system/rdma_port.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "launcher/core/usnic.hpp"

namespace berth {

namespace {

/// An attribute without its line end; empty if it cannot be read: entries of the GID table that are free refuse.
std::string read_attribute(int sysfs, const std::string& path) {
  const UniqueFd file(openat(sysfs, path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return {};
  char text[4096];
  const ssize_t size = read(file.get(), text, sizeof text);
  std::string attribute(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  while (!attribute.empty() && attribute.back() == '\n') attribute.pop_back();
  return attribute;
}

std::string port_path(const std::string& device, unsigned port) {
  return fmt::format("class/infiniband/{}/ports/{}", device, port);
}

std::vector<unsigned> read_gid_indexes(int sysfs, const std::string& path) {
  std::vector<unsigned> indexes;
  const int directory = openat(sysfs, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = directory < 0 ? nullptr : fdopendir(directory);
  if (!entries) {
    if (directory >= 0) close(directory);
    return indexes;
  }
  while (const dirent* entry = readdir(entries))
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
      indexes.push_back(static_cast<unsigned>(std::stoul(entry->d_name)));
  closedir(entries);
  std::sort(indexes.begin(), indexes.end());
  return indexes;
}

}  // namespace

std::string read_rdma_port_state(int sysfs, const std::string& device, unsigned port) {
  return read_attribute(sysfs, port_path(device, port) + "/state");
}

bool is_infiniband_port(int sysfs, const std::string& device, unsigned port) {
  return read_attribute(sysfs, port_path(device, port) + "/link_layer") == "InfiniBand";
}

std::optional<std::string> find_address_without_gid(int sysfs, const std::string& device, unsigned port,
                                                    const std::string& netdev, const std::vector<IpPrefix>& addresses) {
  std::vector<std::string> missing;
  for (const IpPrefix& address : addresses) missing.push_back(to_gid(address));
  const std::string path = port_path(device, port);
  for (const unsigned index : read_gid_indexes(sysfs, path + "/gids")) {
    const std::string gid = read_attribute(sysfs, fmt::format("{}/gids/{}", path, index));
    // The one of the link comes first, then those of the addresses; the rest of a long table is zero.
    if (gid.find_first_not_of("0:") == std::string::npos) continue;
    if (read_attribute(sysfs, fmt::format("{}/gid_attrs/ndevs/{}", path, index)) != netdev) continue;
    if (addresses.empty()) return std::nullopt;
    std::erase(missing, gid);
    if (missing.empty()) return std::nullopt;
  }
  if (addresses.empty()) return "fe80::/10";
  for (const IpPrefix& address : addresses)
    if (to_gid(address) == missing.front()) return address_to_string(address);
  return missing.front();
}

std::optional<std::string> find_usnic_gid_defect(int sysfs, const std::string& device, const MacAddress& mac,
                                                 const std::vector<IpPrefix>& addresses) {
  const std::string text = read_attribute(sysfs, port_path(device, 1) + "/gids/0");
  const auto gid = parse_usnic_gid(text);
  if (!gid) return fmt::format("its GID is '{}'", text);
  if (gid->mac != mac)
    return fmt::format("its GID has the MAC address {}, not {}", to_string(gid->mac), to_string(mac));
  if (!gid->address) return "its driver knows no IPv4 address of it";
  const auto is_it = [&](const IpPrefix& address) {
    return address.family == IpPrefix::Family::v4 && address_to_string(address) == address_to_string(*gid->address);
  };
  if (std::ranges::none_of(addresses, is_it))
    return fmt::format("its driver knows the address {} of it", address_to_string(*gid->address));
  return std::nullopt;
}

std::optional<unsigned> find_gid_index(int sysfs, const std::string& device, unsigned port, const std::string& netdev,
                                       const IpPrefix& address) {
  const std::string wanted = to_gid(address);
  const std::string path = port_path(device, port);
  std::optional<unsigned> found;
  for (const unsigned index : read_gid_indexes(sysfs, path + "/gids")) {
    if (read_attribute(sysfs, fmt::format("{}/gids/{}", path, index)) != wanted) continue;
    if (read_attribute(sysfs, fmt::format("{}/gid_attrs/ndevs/{}", path, index)) != netdev) continue;
    if (read_attribute(sysfs, fmt::format("{}/gid_attrs/types/{}", path, index)) == "RoCE v2") return index;
    if (!found) found = index;
  }
  return found;
}

std::map<std::string, std::uint64_t> read_rdma_port_counters(int sysfs, const std::string& device, unsigned port) {
  std::map<std::string, std::uint64_t> counters;
  for (const char* name : {"port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets",
                           "port_xmit_discards", "port_rcv_errors"}) {
    const std::string text = read_attribute(sysfs, fmt::format("{}/counters/{}", port_path(device, port), name));
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    // "N/A (no PMA)", or nothing: the driver does not count it.
    if (error == std::errc() && !text.empty() && end == text.data() + text.size()) counters[name] = value;
  }
  return counters;
}

std::string to_gid(const IpPrefix& address) {
  std::array<std::uint8_t, 16> gid = address.bytes;
  if (address.family == IpPrefix::Family::v4) {
    gid = {};
    gid[10] = gid[11] = 0xff;
    std::copy_n(address.bytes.begin(), 4, gid.begin() + 12);
  }
  std::string text;
  for (std::size_t i = 0; i < gid.size(); i += 2)
    text += fmt::format("{}{:02x}{:02x}", i == 0 ? "" : ":", gid[i], gid[i + 1]);
  return text;
}

}  // namespace berth
