#include "launcher/broker/rdma_device.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "launcher/core/usnic.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/netlink_rdma.hpp"
#include "launcher/system/polling.hpp"
#include "launcher/system/rdma_port.hpp"

namespace berth {

namespace {

/// A link comes up within seconds, and its GIDs with it; a subnet manager may take longer, but not for RoCE.
constexpr std::chrono::seconds kReadyPatience{10};
/// Objects of a process that was killed are freed a moment after its end.
constexpr std::chrono::seconds kUserPatience{1};

/// Whether the whole RDMA device is the rank's, as that of a VF is.
bool is_own(const BerthSpec& berth) { return is_moved(berth.kind); }

/// The netns that the device is in while the berth is parked.
RdmaSocket open_socket(const BerthSpec& berth, const UniqueFd& netns) {
  return berth.rdma.mode == RdmaMode::exclusive ? RdmaSocket::in_netns(netns) : RdmaSocket();
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Names of the function's RDMA devices that are on the host.
std::vector<std::string> read_names(const PciAddress& pci) {
  return list_directory(fmt::format("/sys/bus/pci/devices/{}/infiniband", to_string(pci)));
}

/// By the netdev that a port belongs to; where ports do not say that, by the function that both belong to.
std::vector<RdmaLink> find_by_netdev(std::vector<RdmaLink> devices, const std::string& netdev) {
  const auto link = LinkSocket().find(netdev);
  std::vector<RdmaLink> found;
  for (const RdmaLink& device : devices)
    if (link && std::ranges::any_of(device.ports, [&](const RdmaPort& port) { return port.ifindex == link->index; }))
      found.push_back(device);
  if (!found.empty()) return found;
  const auto names = list_directory(fmt::format("/sys/class/net/{}/device/infiniband", netdev));
  std::erase_if(devices, [&](const RdmaLink& device) { return std::ranges::find(names, device.name) == names.end(); });
  return devices;
}

/// Daemons of the host may keep devices open; what a user holds is a leftover.
bool is_root_process(int pid) {
  struct stat status {};
  return pid != 0 && stat(fmt::format("/proc/{}", pid).c_str(), &status) == 0 && status.st_uid == 0;
}

std::vector<int> user_processes(RdmaSocket& socket, const RdmaLink& device) {
  std::vector<int> users = socket.users(device);
  std::erase_if(users, is_root_process);
  return users;
}

void require_no_users(const RdmaLink& device) {
  RdmaSocket socket;
  std::vector<int> users;
  if (poll_until(kUserPatience, [&] { return (users = user_processes(socket, device)).empty(); })) return;
  throw Error(ErrorCode::host, fmt::format("cannot use RDMA device '{}'", device.name),
              users.front() == 0 ? std::string("the kernel has not freed what a dead process left of it")
                                 : fmt::format("process {} has it open", users.front()),
              "end the process");
}

std::vector<IpPrefix> addresses_of(const LeaseRecord& record) {
  std::vector<IpPrefix> addresses = record.berth.addresses;
  if (record.berth.inherit_addresses)
    addresses.insert(addresses.end(), record.original.addresses.begin(), record.original.addresses.end());
  return addresses;
}

/// With the owner and mode that udev and the administrator gave it on the host; the kernel's own where the host has no
/// such node.
RdmaNode make_node(const RdmaCharDevice& device) {
  const bool for_everybody = device.name == "rdma_cm" || device.name.starts_with("uverbs");
  RdmaNode node{device.name, device.major, device.minor, for_everybody ? 0666U : 0600U, 0, 0};
  struct stat status {};
  if (stat(("/dev/infiniband/" + device.name).c_str(), &status) != 0 || !S_ISCHR(status.st_mode) ||
      status.st_rdev != makedev(device.major, device.minor))
    return node;
  node.mode = status.st_mode & 07777U;
  node.uid = status.st_uid;
  node.gid = status.st_gid;
  return node;
}

/// The driver follows its netdev's addresses by notifications, into whatever netns that goes.
void wait_for_usnic_gid(const LeaseRecord& record, const UniqueFd& sysfs) {
  const std::string& device = record.original.rdma_device;
  std::optional<std::string> defect;
  if (!poll_until(kReadyPatience, [&] {
        defect = find_usnic_gid_defect(sysfs.get(), device, record.original.mac, addresses_of(record));
        return !defect;
      }))
    throw Error(ErrorCode::host, fmt::format("cannot use RDMA device '{}'", device), *defect,
                "give the pool one IPv4 range (or the interface one IPv4 address, with addresses = \"inherit\")");
}

bool selinux_is_on() { return std::filesystem::exists("/sys/fs/selinux/enforce"); }

}  // namespace

std::vector<RdmaLink> find_rdma_on_host(const BerthSpec& berth, const std::string& netdev) {
  auto devices = RdmaSocket().list();
  if (berth.kind == PoolKind::host) {
    std::erase_if(devices, [&](const RdmaLink& device) { return device.name != berth.parent; });
    return devices;
  }
  if (!berth.pci) return find_by_netdev(std::move(devices), berth.kind == PoolKind::macvlan ? berth.parent : netdev);
  const auto names = read_names(*berth.pci);
  std::erase_if(devices, [&](const RdmaLink& device) { return std::ranges::find(names, device.name) == names.end(); });
  return devices;
}

void read_rdma_device(const BerthSpec& berth, OriginalState& original) {
  if (berth.rdma.mode == RdmaMode::off) return;
  const auto devices = find_rdma_on_host(berth, original.name);
  const std::string id = berth.pci ? to_string(*berth.pci) : berth.parent;
  if (devices.size() != 1)
    throw Error(ErrorCode::host, fmt::format("cannot tell the RDMA device of {}", id),
                devices.empty() ? "it has none in the host's network namespace"
                                : fmt::format("it has {}, '{}' and '{}' among them", devices.size(), devices[0].name,
                                              devices[1].name),
                devices.empty() ? "check that its driver makes one: rdma link" : "");
  const RdmaLink& device = devices.front();
  if (is_own(berth)) require_no_users(device);
  original.rdma_device = device.name;
  original.rdma_port = 1;
  const auto netdev =
      berth.kind == PoolKind::macvlan ? LinkSocket().find(berth.parent) : LinkSocket().find(original.name);
  for (const RdmaPort& port : device.ports)
    if (netdev && port.ifindex == netdev->index) original.rdma_port = port.number;
}

void wait_for_rdma(const LeaseRecord& record, const UniqueFd& netns) {
  if (record.berth.rdma.mode == RdmaMode::off || !netns) return;
  const std::string& device = record.original.rdma_device;
  const unsigned port = record.original.rdma_port;
  const NetnsGuard inside(netns);
  const UniqueFd sysfs = create_sysfs();
  std::string state;
  if (!poll_until(kReadyPatience, [&] {
        state = read_rdma_port_state(sysfs.get(), device, port);
        return state.starts_with("4:");
      }))
    throw Error(ErrorCode::host, fmt::format("cannot use RDMA device '{}'", device),
                state.empty() ? fmt::format("the berth's network namespace does not show its port {}", port)
                              : fmt::format("its port {} does not become active, but stays '{}'", port, state),
                is_usnic_name(device) ? "check cable and switch port; in state INIT the driver has no IPv4 address"
                                      : "check cable and switch port, and the link of the PF");
  if (is_usnic_name(device)) return wait_for_usnic_gid(record, sysfs);
  if (is_infiniband_port(sysfs.get(), device, port)) return;
  std::optional<std::string> missing;
  if (!poll_until(kReadyPatience, [&] {
        missing = find_address_without_gid(sysfs.get(), device, port, record.berth.interface, addresses_of(record));
        return !missing;
      }))
    throw Error(ErrorCode::host, fmt::format("cannot use RDMA device '{}'", device),
                fmt::format("its table of GIDs gets none for {} of '{}'", *missing, record.berth.interface),
                "the table may be full; see /sys/class/infiniband/*/ports/*/gids");
}

bool is_rdma_ready(const LeaseRecord& record, const UniqueFd& netns) {
  if (record.berth.rdma.mode == RdmaMode::off) return true;
  RdmaSocket socket = open_socket(record.berth, netns);
  const auto device = socket.find(record.original.rdma_device);
  if (!device) return false;
  return !is_own(record.berth) || poll_until(kUserPatience, [&] { return user_processes(socket, *device).empty(); });
}

RdmaGrant make_rdma_grant(const LeaseRecord& record, const UniqueFd& netns) {
  const RdmaSettings& settings = record.berth.rdma;
  RdmaGrant grant;
  grant.device = record.original.rdma_device;
  grant.port = record.original.rdma_port;
  grant.self_test = settings.self_test;
  grant.interface = record.berth.interface;
  grant.addresses = addresses_of(record);
  if (selinux_is_on()) grant.selinux_label = settings.selinux_label;
  RdmaSocket socket = open_socket(record.berth, netns);
  const auto device = socket.find(grant.device);
  const auto uverbs = device ? socket.find_char_device("uverbs", device) : std::nullopt;
  if (!uverbs)
    throw Error(ErrorCode::host, fmt::format("cannot find the uverbs device of '{}'", grant.device),
                device ? "the kernel has made none" : "the RDMA device has vanished",
                "load the module: modprobe ib_uverbs");
  grant.nodes.push_back(make_node(*uverbs));
  for (const char* kind : {"umad", "issm"})
    if (const auto node = socket.find_char_device(kind, device, grant.port)) grant.nodes.push_back(make_node(*node));
  // usNIC has its own addressing, and no rdma_cm.
  if (is_usnic_name(grant.device)) return grant;
  if (const auto node = socket.find_char_device("rdma_cm")) grant.nodes.push_back(make_node(*node));
  if (record.berth.kind == PoolKind::macvlan && !grant.addresses.empty()) {
    const NetnsGuard inside(netns);
    const UniqueFd sysfs = create_sysfs();
    grant.gid_index = find_gid_index(sysfs.get(), grant.device, grant.port, grant.interface, grant.addresses.front());
  }
  return grant;
}

}  // namespace berth
