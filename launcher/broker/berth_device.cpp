#include "launcher/broker/berth_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>

#include "launcher/system/link_flags.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

/// How long a moved device may take to get its link back; a macvlan needs no time, its parent has carrier already.
constexpr int kLinkPatienceMs = 3000;
constexpr auto kKillPatience = std::chrono::seconds(2);

/// The netdev of the device in the host's netns: of the PCI function if the berth has one, else `parent` itself. Empty
/// if it is not on the host now.
std::string read_host_netdev(const BerthSpec& berth) {
  if (!berth.pci) return berth.parent;
  std::error_code error;
  const std::filesystem::directory_iterator entry(fmt::format("/sys/bus/pci/devices/{}/net", to_string(*berth.pci)),
                                                  error);
  return error || entry == std::filesystem::directory_iterator() ? std::string{} : entry->path().filename().string();
}

std::string device_name(const BerthSpec& berth) { return berth.pci ? to_string(*berth.pci) : berth.parent; }

Error vanished(const BerthSpec& berth) {
  return {ErrorCode::host, fmt::format("cannot find the network device of {}", device_name(berth)),
          "it is neither on the host nor in its berth",
          "check that its driver is bound; a namespace that still has it gives it back when its last process ends"};
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

Link require_link(LinkSocket& socket, const std::string& name) {
  auto link = socket.find(name);
  if (!link)
    throw Error(ErrorCode::host, fmt::format("cannot find network device '{}'", name), "it has vanished meanwhile");
  return *link;
}

/// The parent of a macvlan; throws if the berth would have no link.
Link require_parent(LinkSocket& host, const BerthSpec& berth) {
  const std::string what = fmt::format("cannot make a macvlan on '{}'", berth.parent);
  const auto parent = host.find(berth.parent);
  if (!parent) throw Error(ErrorCode::host, what, "there is no such network device");
  if (!parent->up)
    throw Error(ErrorCode::host, what, "it is down", fmt::format("bring it up: ip link set {} up", berth.parent));
  if (!parent->carrier) throw Error(ErrorCode::host, what, "it has no carrier", "check cable and switch port");
  return *parent;
}

/// What has to be restored later; asked for before the first change.
OriginalState read_original(LinkSocket& host, const BerthSpec& berth) {
  const std::string name = read_host_netdev(berth);
  const auto link = host.find(name);
  if (!link) throw vanished(berth);
  return {link->name, link->mac, link->mtu, link->up, host.addresses(*link)};
}

void apply_addresses(LinkSocket& inside, const Link& link, const LeaseRecord& record) {
  std::vector<IpPrefix> addresses = record.berth.addresses;
  if (record.berth.inherit_addresses)
    for (const IpPrefix& address : record.original.addresses)
      if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
  for (const IpPrefix& address : addresses) inside.add_address(link, address);
  for (const IpPrefix& gateway : record.berth.gateways) inside.add_default_route(link, gateway);
}

void bring_in(LinkSocket& host, const LeaseRecord& record, const UniqueFd& netns) {
  const BerthSpec& berth = record.berth;
  if (berth.kind == PoolKind::macvlan) {
    const Link parent = require_parent(host, berth);
    // Created where it is needed: moving it there would cost a hundred times as much, under the kernel's RTNL lock.
    host.create_macvlan({.name = berth.interface,
                         .parent = parent.index,
                         .mac = make_mac_address(host_name(), berth.id),
                         .mtu = berth.mtu.value_or(parent.mtu),
                         .netns = netns.get()});
  } else {
    // Attributes that only the PF can set (VLAN, rates, spoof check, trust) belong before the move, and so does the
    // move of an RDMA device: the netdev is the last to go.
    host.change(require_link(host, record.original.name), {.name = berth.interface, .netns = netns.get()});
  }
}

/// The device on the host under whatever name a crash, or the death of its netns, has left it there. Without a PCI
/// address it is told from others that took its name by its MAC address.
std::optional<Link> find_on_host(LinkSocket& host, const LeaseRecord& record) {
  if (record.berth.pci) return host.find(read_host_netdev(record.berth));
  for (const std::string& name : {record.original.name, record.berth.interface})
    if (auto link = host.find(name); link && link->mac == record.original.mac) return link;
  return std::nullopt;
}

void bring_home(const LeaseRecord& record, const std::optional<UniqueFd>& netns) {
  const OriginalState& original = record.original;
  LinkSocket host;
  if (netns) {
    LinkSocket inside = LinkSocket::in_netns(*netns);
    if (const auto link = inside.find(record.berth.interface)) {
      // The kernel would move the device first and then fail to rename it.
      if (host.find(original.name))
        throw Error(ErrorCode::host, fmt::format("cannot bring '{}' home", original.name),
                    "another device has taken its name", "rename the other device, then run: berth repair");
      const UniqueFd home = open_current_netns();
      inside.change(*link, {.name = original.name, .netns = home.get()});
    }
  }
  auto link = find_on_host(host, record);
  if (!link) throw vanished(record.berth);
  if (link->name != original.name) {
    host.change(*link, {.up = false});
    host.change(*link, {.name = original.name});
    link = require_link(host, original.name);
  }
  if (link->mac != original.mac) host.change(*link, {.mac = original.mac});
  if (link->mtu != original.mtu) host.change(*link, {.mtu = original.mtu});
  if (link->up != original.up) host.change(*link, {.up = original.up});
  const std::vector<IpPrefix> present = host.addresses(*link);
  const auto is_in = [](const std::vector<IpPrefix>& all, const IpPrefix& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (const IpPrefix& address : present)
    if (!is_in(original.addresses, address)) host.remove_address(*link, address);
  for (const IpPrefix& address : original.addresses)
    if (!is_in(present, address)) host.add_address(*link, address);
}

/// Whether Journal::read() made the record up because it could not read it: then it is quarantined already, says
/// nothing about the device, and the file is kept as evidence.
bool is_unreadable(const LeaseRecord& record) { return record.berth.parent.empty(); }

MacAddress device_mac(const LeaseRecord& record) {
  return record.berth.kind == PoolKind::macvlan ? make_mac_address(host_name(), record.berth.id) : record.original.mac;
}

/// Also without its pin a netns can be found again, as long as a process is in it. Its number alone proves nothing: the
/// kernel gives the number of a dead netns to the next one, which may be anybody's. The device does.
std::optional<UniqueFd> open_netns_for_taking_down(const Journal& journal, const LeaseRecord& record) {
  if (auto netns = open_pinned_netns(journal.netns_path(record.berth.id))) return netns;
  if (record.netns_inode == 0) return std::nullopt;
  const auto processes = read_processes_in_each({record.netns_inode});
  for (const int pid : processes.front()) {
    UniqueFd netns(open(fmt::format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns || netns_inode(netns) != record.netns_inode) continue;
    const auto link = LinkSocket::in_netns(netns).find(record.berth.interface);
    if (link && link->mac == device_mac(record)) return netns;
  }
  return std::nullopt;
}

}  // namespace

MacAddress make_mac_address(std::string_view host, std::string_view id) {
  // FNV-1a, then a finalizer, because its upper bits hardly differ between short texts that end differently.
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto feed = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0xffU) * 0x100000001b3;
  };
  feed(host);
  feed(id);
  hash = (hash ^ (hash >> 33U)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33U)) * 0xc4ceb9fe1a85ec53;
  hash ^= hash >> 33U;
  MacAddress mac;
  for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(hash >> (8 * i));
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 0x02U);
  return mac;
}

UniqueFd set_up(const Journal& journal, LeaseRecord& record) {
  const BerthSpec& berth = record.berth;
  LinkSocket host;
  if (berth.kind == PoolKind::sriov)
    record.original = read_original(host, berth);
  else
    require_parent(host, berth);
  record.boot_id = journal.boot_id();
  record.phase = Phase::parking;
  record.netns_inode = 0;
  record.owner.reset();
  record.reason.clear();
  journal.write(record);

  UniqueFd netns = create_netns();
  pin_netns(netns, journal.netns_path(berth.id));
  bring_in(host, record, netns);

  LinkSocket inside = LinkSocket::in_netns(netns);
  inside.change(require_link(inside, "lo"), {.up = true});
  const Link link = require_link(inside, berth.interface);
  if (berth.mtu && link.mtu != *berth.mtu) inside.change(link, {.mtu = berth.mtu});
  inside.change(link, {.up = true});
  apply_addresses(inside, link, record);
  inside.wait_until_running(link, kLinkPatienceMs);

  record.phase = Phase::parked;
  record.netns_inode = netns_inode(netns);
  journal.write(record);
  return netns;
}

void take_down(const Journal& journal, LeaseRecord& record) {
  if (is_unreadable(record))
    throw Error(ErrorCode::host, fmt::format("cannot bring {} home", record.berth.id), record.reason,
                "bring it home by hand, then remove its record from the lease directory");
  record.phase = Phase::unparking;
  record.reason.clear();
  journal.write(record);
  const auto netns = open_netns_for_taking_down(journal, record);
  if (netns)
    if (const auto left =
            kill_processes_in_each({netns_inode(*netns)}, std::chrono::steady_clock::now() + kKillPatience);
        !left.front().empty())
      throw Error(ErrorCode::host, fmt::format("cannot empty the berth of {}", record.berth.id),
                  fmt::format("process {} does not end", left.front().front()));
  if (record.berth.kind == PoolKind::sriov) {
    bring_home(record, netns);
  } else if (netns) {
    // Explicitly: a socket that somebody holds elsewhere would keep the netns alive, and the macvlan in it.
    LinkSocket inside = LinkSocket::in_netns(*netns);
    if (const auto link = inside.find(record.berth.interface)) inside.remove(*link);
  }
  unpin_netns(journal.netns_path(record.berth.id));
}

UniqueFd rebuild(const Journal& journal, LeaseRecord& record, const BerthSpec& spec) {
  try {
    if (journal.read(spec.id)) take_down(journal, record);
    journal.remove_record(spec.id);
    record = {};
    record.berth = spec;
    return set_up(journal, record);
  } catch (const Error& error) {
    if (journal.read(spec.id)) try {
        take_down(journal, record);
      } catch (const Error&) {
        quarantine(journal, record, error);
        throw error;
      }
    journal.remove(spec.id);
    throw;
  }
}

std::optional<UniqueFd> open_recorded_netns(const Journal& journal, const LeaseRecord& record) {
  auto netns = open_pinned_netns(journal.netns_path(record.berth.id));
  if (netns && netns_inode(*netns) != record.netns_inode) return std::nullopt;
  return netns;
}

bool has_device(const BerthSpec& berth, const UniqueFd& netns, bool with_link) {
  const NetnsGuard inside(netns);
  const auto flags = read_link_flags(berth.interface);
  return flags && flags->up && (!with_link || berth.kind == PoolKind::sriov || flags->running);
}

void quarantine(const Journal& journal, LeaseRecord& record, const Error& error) {
  if (is_unreadable(record)) return;
  record.phase = Phase::quarantined;
  record.reason = error.why.empty() ? error.what() : fmt::format("{}: {}", error.what(), error.why);
  journal.write(record);
}

}  // namespace berth
