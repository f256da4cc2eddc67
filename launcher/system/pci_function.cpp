#include "launcher/system/pci_function.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <filesystem>

#include "launcher/core/vf_attributes.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

namespace {

namespace fs = std::filesystem;

fs::path path_of(const PciAddress& pci) { return fmt::format("/sys/bus/pci/devices/{}", to_string(pci)); }

std::string read_link_name(const fs::path& path) {
  std::error_code error;
  return fs::read_symlink(path, error).filename().string();
}

std::string read_first_entry(const fs::path& directory) {
  std::error_code error;
  const fs::directory_iterator entry(directory, error);
  return error || entry == fs::directory_iterator() ? std::string{} : entry->path().filename().string();
}

}  // namespace

// The inode number of the function's directory. Sysfs counts its nodes with a generation, so numbers do not come back,
// and it shows the same number wherever it is mounted.
std::uint64_t read_pci_instance(const PciAddress& pci) {
  struct stat status {};
  return stat(path_of(pci).c_str(), &status) == 0 ? status.st_ino : 0;
}

std::string read_pci_driver(const PciAddress& pci) { return read_link_name(path_of(pci) / "driver"); }

std::string read_pci_netdev(const PciAddress& pci) { return read_first_entry(path_of(pci) / "net"); }

std::string read_pci_netdev(const PciAddress& pci, const UniqueFd& sysfs) {
  return read_first_entry(fmt::format("/proc/thread-self/fd/{}/bus/pci/devices/{}/net", sysfs.get(), to_string(pci)));
}

void announce_netdev(const PciAddress& pci) {
  const std::string name = read_pci_netdev(pci);
  if (name.empty()) return;
  try {
    write_control_file(path_of(pci) / "net" / name / "uevent", "change");
  } catch (const Error&) {
    // It has been renamed or moved since: then udev has looked at it.
  }
}

std::optional<std::uint64_t> read_pci_node_guid(const PciAddress& pci) {
  const fs::path devices = path_of(pci) / "infiniband";
  const std::string device = read_first_entry(devices);
  if (device.empty()) return std::nullopt;
  const std::string text = read_file(AT_FDCWD, devices / device / "node_guid");
  return parse_guid(text.substr(0, text.find('\n')));
}

std::optional<VfPlace> read_vf_place(const PciAddress& vf) {
  constexpr std::string_view kPrefix = "virtfn";
  const fs::path path = path_of(vf);
  const auto pf = parse_pci_address(read_link_name(path / "physfn"));
  std::error_code error;
  if (!pf) return std::nullopt;
  for (fs::directory_iterator entry(path_of(*pf), error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || read_link_name(entry->path()) != to_string(vf)) continue;
    VfPlace place{*pf, 0};
    const char* last = name.data() + name.size();
    const auto [stop, bad] = std::from_chars(name.data() + kPrefix.size(), last, place.index);
    if (bad == std::errc{} && stop == last) return place;
  }
  return std::nullopt;
}

void bind_driver(const PciAddress& pci, const std::string& driver) {
  write_control_file(fmt::format("/sys/bus/pci/drivers/{}/bind", driver), to_string(pci));
}
void unbind_driver(const PciAddress& pci, const std::string& driver) {
  write_control_file(fmt::format("/sys/bus/pci/drivers/{}/unbind", driver), to_string(pci));
}

}  // namespace berth
