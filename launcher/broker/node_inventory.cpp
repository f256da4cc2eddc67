#include "launcher/broker/node_inventory.hpp"

#include <fcntl.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/system/fd.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/netlink_rdma.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/sysfs.hpp"

namespace berth {

using nlohmann::json;

namespace {

KnownSpeeds read_kept(const std::string& path, const std::string& boot_id) {
  KnownSpeeds speeds;
  try {
    const json kept = json::parse(read_file(AT_FDCWD, path));
    if (kept.at("boot_id").get<std::string>() != boot_id) return {};
    for (const auto& [name, speed] : kept.at("speeds").items())
      speeds[name] = {speed.at(0).get<unsigned>(), static_cast<LinkState>(speed.at(1).get<unsigned>()),
                      speed.at(2).get<std::uint64_t>(), speed.at(3).get<std::uint32_t>()};
  } catch (const std::exception&) {  // absent, of another version, or cut short: read again
    return {};
  }
  return speeds;
}

void keep(const std::string& path, const std::string& boot_id, const KnownSpeeds& speeds) {
  json list = json::object();
  for (const auto& [name, speed] : speeds)
    list[name] = {speed.index, static_cast<unsigned>(speed.link), speed.carrier_changes, speed.mbps};
  write_file_atomically(path, json{{"boot_id", boot_id}, {"speeds", std::move(list)}}.dump(), 0644);
}

/// What sysfs does not say of usNIC devices: netmasks, and whose children the processes are that have QPs.
void complete(std::vector<UsnicDevice>& devices, const Inventory& inventory) {
  if (devices.empty()) return;
  LinkSocket links;
  for (UsnicDevice& device : devices) {
    for (UsnicQp& qp : device.qps)
      if (auto ancestry = read_ancestry(qp.processes.front()); !ancestry.empty()) qp.processes = std::move(ancestry);
    const auto link = links.find(find_usnic_netdev(device, inventory));
    if (!link || !device.address) continue;
    for (const IpPrefix& address : links.addresses(*link))
      if (address.bytes == device.address->bytes && address.family == device.address->family) device.address = address;
  }
}

}  // namespace

Inventory read_devices(const Journal& journal, const std::string& root, const std::string& host) {
  KnownSpeeds known;
  if (root != "/") return read_inventory(root, host, known);
  const std::string path = journal.state_directory() + "/speeds.json";
  const KnownSpeeds before = known = read_kept(path, journal.boot_id());
  Inventory inventory = read_inventory(root, host, known);
  if (known != before && journal.can_write()) keep(path, journal.boot_id(), known);
  inventory.rdma_netns_mode = read_rdma_netns_mode();
  complete(inventory.usnic_devices, inventory);
  return inventory;
}

Inventory read_node_inventory(const Journal& journal, const std::string& root, const std::string& host,
                              bool check_locks) {
  std::vector<HeldDevice> held = journal.held_devices(check_locks);
  Inventory inventory = read_devices(journal, root, host);
  inventory.held = std::move(held);
  return inventory;
}

void read_held(const Journal& journal, const Policy& policy, Inventory& inventory) {
  if (std::ranges::none_of(policy.pools, leaves_the_host)) {
    inventory.held = journal.held_devices(true);
    return;
  }
  Topology topology = std::move(inventory.topology);
  inventory = read_node_inventory(journal, "/", inventory.host, true);
  inventory.topology = std::move(topology);
}

}  // namespace berth
