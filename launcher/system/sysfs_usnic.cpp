#include "launcher/system/sysfs_usnic.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <limits>

namespace berth {
namespace {

const std::string kRdma = "sys/class/infiniband";
const std::string kVerbs = "sys/class/infiniband_verbs";

/// One device's attributes; what is wrong with them is collected.
class Attributes {
 public:
  Attributes(const RootDir& root, std::string path, std::vector<std::string>& defects)
      : root_(root), path_(std::move(path)), defects_(defects) {}

  std::string text(const std::string& name) {
    const auto text = root_.read_text(path_ + "/" + name);
    if (text && !text->empty()) return *text;
    defects_.push_back(fmt::format("its file {} {}", name,
                                   text                               ? "is empty"
                                   : root_.exists(path_ + "/" + name) ? "cannot be read"
                                                                      : "is missing"));
    return {};
  }

  unsigned number(const std::string& name) {
    const std::string digits = text(name);
    if (digits.empty()) return 0;
    const auto number = root_.read_number(path_ + "/" + name);
    if (number && *number <= std::numeric_limits<unsigned>::max()) return static_cast<unsigned>(*number);
    malformed(name, digits);
    return 0;
  }

  void malformed(const std::string& name, const std::string& content) {
    defects_.push_back(fmt::format("its file {} says '{}'", name, content.substr(0, 40)));
  }

 private:
  const RootDir& root_;
  std::string path_;
  std::vector<std::string>& defects_;
};

/// What somebody holds of the device. A QP may end while it is looked at; one that stays and says nothing is a defect,
/// since its VF would count as free.
void read_qps(const RootDir& root, const std::string& path, UsnicDevice& device) {
  if (!root.exists(path + "/qpn/.")) {
    device.defects.emplace_back("its directory qpn, which says who holds VFs, is missing or cannot be read");
    return;
  }
  for (const std::string& name : root.list(path + "/qpn")) {
    const std::string summary = fmt::format("qpn/{}/summary", name);
    const auto text = root.read_text(path + "/" + summary);
    if (const auto qp = text ? parse_usnic_qp(*text) : std::nullopt) {
      device.qps.push_back(*qp);
    } else if (root.exists(path + "/qpn/" + name)) {
      device.defects.push_back(fmt::format("its file {} does not say who holds which VF", summary));
    }
  }
}

/// "231:193"
bool parse_numbers(const std::string& text, UsnicDevice& device) {
  const char* end = text.data() + text.size();
  const auto [colon, major_error] = std::from_chars(text.data(), end, device.major);
  if (major_error != std::errc{} || colon == end || *colon != ':') return false;
  const auto [rest, minor_error] = std::from_chars(colon + 1, end, device.minor);
  return minor_error == std::errc{} && rest == end;
}

void read_uverbs(const RootDir& root, UsnicDevice& device) {
  std::vector<std::string> own;
  std::vector<std::string> silent;
  for (const std::string& name : root.list(kVerbs)) {
    if (!name.starts_with("uverbs")) continue;  // abi_version
    const auto owner = root.read_text(kVerbs + "/" + name + "/ibdev");
    if (owner == device.name) own.push_back(name);
    if (!owner || owner->empty()) silent.push_back(name + "/ibdev");
  }
  if (own.size() != 1) {
    std::string defect = own.empty() ? "no uverbs device says that it is its own"
                                     : fmt::format("{} all say that they are its own", fmt::join(own, ", "));
    if (!silent.empty()) defect += fmt::format(" ({} cannot be read or is empty)", fmt::join(silent, ", "));
    device.defects.push_back(std::move(defect));
    return;
  }
  device.uverbs = own.front();
  const std::string path = kVerbs + "/" + device.uverbs;
  device.uverbs_pci = parse_pci_address(root.read_link_name(path + "/device").value_or(""));
  const std::string numbers = root.read_text(path + "/dev").value_or("");
  if (!parse_numbers(numbers, device))
    device.defects.push_back(fmt::format("{}/dev says '{}', which is no device number", device.uverbs, numbers));
}

UsnicDevice read_usnic_device(const RootDir& root, const std::string& name) {
  const std::string path = kRdma + "/" + name;
  UsnicDevice device;
  Attributes attributes(root, path, device.defects);
  device.name = name;
  device.pci = parse_pci_address(root.read_link_name(path + "/device").value_or(""));
  if (!device.pci) device.defects.emplace_back("its link device leads to no PCI function");
  device.interface = attributes.text("iface");
  if (!device.interface.empty() && !is_interface_name(device.interface))
    attributes.malformed("iface", device.interface);
  device.vfs = attributes.number("max_vf");
  device.qps_per_vf = attributes.number("qp_per_vf");
  device.cqs_per_vf = attributes.number("cq_per_vf");
  device.firmware = attributes.text("fw_ver");  // libfabric gives a device up that has none
  device.board = root.read_text(path + "/board_id").value_or("");
  device.port_state = attributes.text("ports/1/state");
  if (const std::string text = attributes.text("ports/1/gids/0"); !text.empty()) {
    const auto gid = parse_usnic_gid(text);
    if (!gid) attributes.malformed("ports/1/gids/0", text);
    device.mac = gid.value_or(UsnicGid{}).mac;
    device.address = gid.value_or(UsnicGid{}).address;
  }
  device.shares_vfs = root.read_number("sys/module/usnic_verbs/parameters/usnic_ib_share_vf").value_or(0) != 0;
  read_uverbs(root, device);
  read_qps(root, path, device);
  return device;
}

}  // namespace

std::vector<UsnicDevice> read_usnic_devices(const RootDir& root) {
  std::vector<UsnicDevice> devices;
  for (const std::string& name : root.list(kRdma))
    if (is_usnic_name(name)) devices.push_back(read_usnic_device(root, name));
  return devices;
}

}  // namespace berth
