#include "launcher/system/sysfs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "launcher/system/root_dir.hpp"
#include "launcher/system/sysfs_usnic.hpp"

namespace berth {
namespace {

const std::string kNet = "sys/class/net";
const std::string kPci = "sys/bus/pci/devices";
const std::string kRdma = "sys/class/infiniband";

/// A number that fits T and is at most `limit`; anything else is not believed.
template <typename T>
std::optional<T> read_bounded(const RootDir& root, const std::string& path, T limit = std::numeric_limits<T>::max()) {
  const auto number = root.read_number(path);
  if (!number || *number > limit) return std::nullopt;
  return static_cast<T>(*number);
}

LinkState read_link_state(const RootDir& root, const std::string& path) {
  const std::string state = root.read_text(path + "/operstate").value_or("");
  if (state == "up") return LinkState::up;
  if (state == "down" || state == "lowerlayerdown" || state == "notpresent") return LinkState::down;
  return LinkState::unknown;
}

CpuSet read_local_cpus(const RootDir& root, const std::string& device) {
  const auto text = root.read_text(device + "/local_cpulist", 65536);
  return text ? parse_cpu_list(*text).value_or(CpuSet{}) : CpuSet{};
}

std::optional<unsigned> read_numa_node(const RootDir& root, const std::string& device) {
  return read_bounded<unsigned>(root, device + "/numa_node", kMaxCpu);
}

/// What "DEVTYPE=" of the uevent says of the kinds that are not hardware; many kinds say nothing.
std::string read_kind(const RootDir& root, const std::string& path) {
  const std::string text = root.read_text(path + "/uevent").value_or("");
  constexpr std::string_view kKey = "DEVTYPE=";
  const std::size_t key = text.find(kKey);
  if (key == std::string::npos || (key > 0 && text[key - 1] != '\n')) return {};
  const std::size_t start = key + kKey.size();
  return text.substr(start, text.find('\n', start) - start);
}

/// "pci0000:3a/0000:3a:00.0/0000:3b:00.0"
std::string read_pci_path(const RootDir& root, const PciAddress& pci) {
  constexpr std::string_view kDevices = "/devices/";
  const std::string target = root.read_link(kPci + "/" + to_string(pci)).value_or("");
  const std::size_t devices = target.find(kDevices);
  return devices == std::string::npos ? std::string{} : target.substr(devices + kDevices.size());
}

/// By the hardware type of include/uapi/linux/if_arp.h.
std::string read_link_layer(const RootDir& root, const std::string& net_path) {
  const auto type = root.read_number(net_path + "/type");
  return type == 1U ? "Ethernet" : type == 32U ? "InfiniBand" : "";
}

/// Takes the kernel's RTNL lock. It says -1 (as a signed or an unsigned number) for "unknown", or refuses while the
/// link is down.
std::uint32_t read_speed(const RootDir& root, const std::string& path) {
  return read_bounded<std::uint32_t>(root, path + "/speed", 100'000'000).value_or(0);
}

NetDevice read_net_device(const RootDir& root, const std::string& name, const KnownSpeeds& known, KnownSpeeds& now) {
  const std::string path = kNet + "/" + name;
  const std::string device = path + "/device";
  NetDevice net;
  net.name = name;
  net.index = read_bounded<unsigned>(root, path + "/ifindex").value_or(0);
  net.mac = parse_mac_address(root.read_text(path + "/address").value_or("")).value_or(MacAddress{});
  net.mtu = read_bounded<unsigned>(root, path + "/mtu").value_or(0);
  net.link = read_link_state(root, path);
  KnownSpeed speed{net.index, net.link, root.read_number(path + "/carrier_changes").value_or(0), 0};
  const auto before = known.find(name);
  if (before != known.end()) speed.mbps = before->second.mbps;
  if (before == known.end() || before->second != speed) speed.mbps = read_speed(root, path);
  now[name] = speed;
  net.speed_mbps = speed.mbps;
  net.kind = read_kind(root, path);
  net.link_layer = read_link_layer(root, path);
  if (!root.exists(device)) return net;
  net.driver = root.read_link_name(device + "/driver").value_or("");
  net.pci = parse_pci_address(root.read_link_name(device).value_or(""));
  if (net.pci) net.pci_path = read_pci_path(root, *net.pci);
  net.rdma_devices = root.list(device + "/infiniband");
  net.numa_node = read_numa_node(root, device);
  net.local_cpus = read_local_cpus(root, device);
  return net;
}

/// "100 Gb/sec (4X EDR)" in Mbit/s; 0 if it says something else.
std::uint32_t parse_rdma_rate(const std::string& text) {
  double gigabits = 0;
  const auto [unit, error] = std::from_chars(text.data(), text.data() + text.size(), gigabits);
  const std::string_view rest(unit, static_cast<std::size_t>(text.data() + text.size() - unit));
  if (error != std::errc{} || !rest.starts_with(" Gb/sec") || gigabits < 0 || gigabits > 100'000) return 0;
  return static_cast<std::uint32_t>(gigabits * 1000);
}

RdmaDevice read_rdma_device(const RootDir& root, const std::string& name, const std::vector<NetDevice>& net_devices) {
  const std::string path = kRdma + "/" + name;
  RdmaDevice device;
  device.name = name;
  device.pci = parse_pci_address(root.read_link_name(path + "/device").value_or(""));
  device.netdev = root.read_text(path + "/ports/1/gid_attrs/ndevs/0").value_or("");
  if (is_usnic_name(name))  // whose GIDs name no netdev
    for (const NetDevice& net : net_devices)
      if (device.pci && net.pci == device.pci) device.netdev = net.name;
  device.link_layer = root.read_text(path + "/ports/1/link_layer").value_or("");
  if (const auto net = std::ranges::find(net_devices, device.netdev, &NetDevice::name); net != net_devices.end()) {
    // The port of a RoCE device is what its netdev is; several drivers would ask that under the RTNL lock, too.
    device.link = net->link;
    device.speed_mbps = net->speed_mbps;
  } else if (device.link_layer != "Ethernet") {  // else its netdev is in another netns
    // "4: ACTIVE"; every other number is some way of not carrying data.
    const std::string state = root.read_text(path + "/ports/1/state").value_or("");
    if (!state.empty()) device.link = state.starts_with("4:") ? LinkState::up : LinkState::down;
    device.speed_mbps = parse_rdma_rate(root.read_text(path + "/ports/1/rate").value_or(""));
  }
  device.numa_node = read_numa_node(root, path + "/device");
  device.local_cpus = read_local_cpus(root, path + "/device");
  if (device.pci) device.pci_path = read_pci_path(root, *device.pci);
  device.image_guid = root.read_text(path + "/sys_image_guid").value_or("");
  const std::string vendor = root.read_text(path + "/device/vendor").value_or("");
  if (vendor.starts_with("0x")) device.vendor = vendor.substr(2);
  return device;
}

/// The netdev of a function; the first in natural order where a driver makes several (switchdev representors).
std::string read_netdev(const RootDir& root, const std::string& path) {
  const auto names = root.list(path + "/net");
  return names.empty() ? std::string{} : names.front();
}

/// The number N for which PF/virtfnN points to `vf`.
std::optional<unsigned> read_vf_index(const RootDir& root, const std::string& pf_path, const std::string& vf) {
  constexpr std::string_view kPrefix = "virtfn";
  for (const std::string& entry : root.list(pf_path)) {
    if (!entry.starts_with(kPrefix) || entry.size() > kPrefix.size() + 5) continue;
    const std::string digits = entry.substr(kPrefix.size());
    if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) continue;
    if (root.read_link_name(pf_path + "/" + entry) == vf) return static_cast<unsigned>(std::stoul(digits));
  }
  return std::nullopt;
}

std::optional<VirtualFunction> read_virtual_function(const RootDir& root, const std::string& name) {
  const std::string path = kPci + "/" + name;
  const auto pf_name = root.read_link_name(path + "/physfn");
  const auto pci = parse_pci_address(name);
  const auto pf = pf_name ? parse_pci_address(*pf_name) : std::nullopt;
  if (!pci || !pf) return std::nullopt;
  const auto index = read_vf_index(root, kPci + "/" + *pf_name, name);
  if (!index) return std::nullopt;  // being removed: the PF has let go of it
  VirtualFunction vf;
  vf.pci = *pci;
  vf.pf = *pf;
  vf.index = *index;
  vf.driver = root.read_link_name(path + "/driver").value_or("");
  vf.netdev = read_netdev(root, path);
  vf.rdma_devices = root.list(path + "/infiniband");
  vf.numa_node = read_numa_node(root, path);
  vf.local_cpus = read_local_cpus(root, path);
  vf.pci_path = read_pci_path(root, vf.pci);
  return vf;
}

std::optional<PhysicalFunction> read_physical_function(const RootDir& root, const std::string& name) {
  const std::string path = kPci + "/" + name;
  const auto pci = parse_pci_address(name);
  if (!pci || root.exists(path + "/physfn")) return std::nullopt;
  PhysicalFunction pf;
  pf.pci = *pci;
  pf.netdev = read_netdev(root, path);
  pf.total_vfs = read_bounded<unsigned>(root, path + "/sriov_totalvfs", 65535).value_or(0);
  pf.num_vfs = read_bounded<unsigned>(root, path + "/sriov_numvfs", 65535).value_or(0);
  // Class 02xxxx is a network controller; only those (or what has a netdev) are of interest, not SR-IOV disks.
  const bool network = root.read_text(path + "/class").value_or("").starts_with("0x02");
  if (pf.netdev.empty() && !(network && pf.total_vfs > 0)) return std::nullopt;
  return pf;
}

/// 3D and other display controllers, and processing accelerators, as the PCI code and ID assignment specification calls
/// them. What can show a console is a GPU only by its driver: most servers have a management controller that can.
std::optional<Gpu> read_gpu(const RootDir& root, const std::string& name) {
  const std::string path = kPci + "/" + name;
  const auto pci = parse_pci_address(name);
  const std::string kind = root.read_text(path + "/class").value_or("").substr(0, 6);
  const bool is_gpu = kind == "0x0302" || kind == "0x0380" || kind == "0x1200";
  if (!pci || (!is_gpu && kind != "0x0300")) return std::nullopt;
  if (!is_gpu) {
    const auto driver = root.read_link_name(path + "/driver");
    if (driver != "nvidia" && driver != "amdgpu") return std::nullopt;
  }
  return Gpu{*pci, read_numa_node(root, path), read_local_cpus(root, path), read_pci_path(root, *pci)};
}

}  // namespace

Inventory read_inventory(const std::string& root_path, const std::string& host, KnownSpeeds& known) {
  const RootDir root(root_path);
  Inventory inventory;
  inventory.host = host;
  KnownSpeeds speeds;
  for (const std::string& name : root.list(kNet)) {
    // /sys/class/net also holds plain files (bonding_masters); "." and non-names cannot be devices.
    if (is_interface_name(name) && root.exists(kNet + "/" + name + "/ifindex")) {
      inventory.net_devices.push_back(read_net_device(root, name, known, speeds));
    }
  }
  known = std::move(speeds);
  for (const std::string& name : root.list(kRdma))
    inventory.rdma_devices.push_back(read_rdma_device(root, name, inventory.net_devices));
  inventory.usnic_devices = read_usnic_devices(root);
  for (const std::string& name : root.list(kPci)) {
    if (auto pf = read_physical_function(root, name)) inventory.physical_functions.push_back(*std::move(pf));
    if (auto gpu = read_gpu(root, name)) inventory.gpus.push_back(*std::move(gpu));
  }
  std::ranges::sort(inventory.gpus, {}, &Gpu::pci);
  for (const std::string& name : root.list(kPci)) {
    auto vf = read_virtual_function(root, name);
    if (!vf) continue;
    const auto is_parent = [&](const PhysicalFunction& pf) { return pf.pci == vf->pf; };
    const auto& pfs = inventory.physical_functions;
    if (std::any_of(pfs.begin(), pfs.end(), is_parent)) inventory.virtual_functions.push_back(*std::move(vf));
  }
  std::sort(inventory.virtual_functions.begin(), inventory.virtual_functions.end(),
            [](const VirtualFunction& a, const VirtualFunction& b) {
              return std::pair(a.pf, a.index) < std::pair(b.pf, b.index);
            });
  return inventory;
}

}  // namespace berth
