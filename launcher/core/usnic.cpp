#include "launcher/core/usnic.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "launcher/core/inventory.hpp"

namespace berth {
namespace {

/// The number behind `key` in the text.
std::optional<unsigned> number_after(std::string_view text, std::string_view key) {
  const std::size_t place = text.find(key);
  if (place == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(place + key.size());
  unsigned number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc{} || (end != rest.data() + rest.size() && *end != ' ')) return std::nullopt;
  return number;
}

const NetDevice* find_netdev(const UsnicDevice& device, const Inventory& inventory) {
  const auto found = std::ranges::find_if(
      inventory.net_devices, [&](const NetDevice& netdev) { return device.pci && netdev.pci == device.pci; });
  return found == inventory.net_devices.end() ? nullptr : &*found;
}

std::string pci_text(const std::optional<PciAddress>& pci) { return pci ? to_string(*pci) : "no PCI function"; }

}  // namespace

bool is_usnic_name(std::string_view name) { return name.starts_with("usnic"); }

std::optional<UsnicQp> parse_usnic_qp(std::string_view text) {
  const auto number = number_after(text, "QPN: ");
  const auto process = number_after(text, " PID: ");
  const auto vf = number_after(text, " VF Idx: ");
  if (!text.starts_with("QPN: ") || !number || !process || !vf) return std::nullopt;
  return UsnicQp{*number, *vf, {static_cast<int>(*process)}};
}

std::optional<UsnicGid> parse_usnic_gid(std::string_view text) {
  constexpr std::size_t kGroups = 8;
  constexpr std::size_t kStride = 5;  // four digits and a colon
  if (text.size() != kGroups * kStride - 1) return std::nullopt;
  std::array<std::uint8_t, 2 * kGroups> gid{};
  for (std::size_t group = 0; group < kGroups; ++group) {
    const char* begin = text.data() + group * kStride;
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
    if (error != std::errc{} || end != begin + 4) return std::nullopt;
    if (group + 1 < kGroups && *end != ':') return std::nullopt;
    gid[2 * group] = static_cast<std::uint8_t>(value >> 8U);
    gid[2 * group + 1] = static_cast<std::uint8_t>(value & 0xffU);
  }
  if (gid[0] != 0xfe || gid[1] != 0x80 || gid[11] != 0xff || gid[12] != 0xfe) return std::nullopt;
  UsnicGid parsed;
  constexpr std::uint8_t kLocalBit = 2;  // the kernel flips it, as for an IPv6 interface identifier
  parsed.mac = {static_cast<std::uint8_t>(gid[8] ^ kLocalBit), gid[9], gid[10], gid[13], gid[14], gid[15]};
  if (std::any_of(gid.begin() + 4, gid.begin() + 8, [](std::uint8_t byte) { return byte != 0; }))
    parsed.address = parse_ip_prefix(fmt::format("{}.{}.{}.{}/32", gid[4], gid[5], gid[6], gid[7]));
  return parsed;
}

std::string find_usnic_defect(const UsnicDevice& device, const Inventory& inventory) {
  if (!device.defects.empty()) return fmt::format("{}", fmt::join(device.defects, "; "));
  if (device.uverbs_pci != device.pci)
    return fmt::format("{} belongs to {}, and {} to {}", device.uverbs, pci_text(device.uverbs_pci), device.name,
                       pci_text(device.pci));
  for (const UsnicDevice& other : inventory.usnic_devices) {
    if (&other == &device || other.name == device.name) continue;
    if (other.uverbs == device.uverbs || (other.pci && other.pci == device.pci))
      return fmt::format("{} says that it is the same device", other.name);
  }
  if (const NetDevice* netdev = find_netdev(device, inventory)) {
    if (netdev->name != device.interface)
      return fmt::format("its file iface says '{}', and the interface of {} is '{}'", device.interface,
                         pci_text(device.pci), netdev->name);
    if (netdev->mac != device.mac)
      return fmt::format("its GID has the MAC address {}, and {} has {}", to_string(device.mac), netdev->name,
                         to_string(netdev->mac));
  }
  const auto pf = std::ranges::find_if(inventory.physical_functions,
                                       [&](const PhysicalFunction& each) { return device.pci == each.pci; });
  if (pf != inventory.physical_functions.end() && device.vfs > pf->num_vfs)
    return fmt::format("its file max_vf says {}, and its PF has {} VFs", device.vfs, pf->num_vfs);
  if (device.vfs == 0) return "no VF of it is bound to usnic_verbs";
  if (device.qps_per_vf == 0 || device.cqs_per_vf == 0) return "its VFs have no QPs or no CQs";
  return {};
}

std::string find_usnic_netdev(const UsnicDevice& device, const Inventory& inventory) {
  const NetDevice* netdev = find_netdev(device, inventory);
  return netdev == nullptr ? std::string{} : netdev->name;
}

unsigned count_vfs_per_rank(const UsnicDevice& device, unsigned qps_per_rank) {
  if (!device.shares_vfs || device.qps_per_vf == 0) return qps_per_rank;
  return (qps_per_rank + device.qps_per_vf - 1) / device.qps_per_vf;
}

UsnicUse count_vfs_of_others(const UsnicDevice& device, const std::vector<int>& own) {
  UsnicUse use;
  std::set<unsigned> vfs;
  for (const UsnicQp& qp : device.qps) {
    const auto is_own = [&](int process) { return std::ranges::find(own, process) != own.end(); };
    if (std::ranges::any_of(qp.processes, is_own)) continue;
    vfs.insert(qp.vf);
    if (use.process == 0 && !qp.processes.empty()) use.process = qp.processes.front();
  }
  use.vfs = static_cast<unsigned>(vfs.size());
  return use;
}

}  // namespace berth
