#include "launcher/broker/berth_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "launcher/broker/device_moves.hpp"
#include "launcher/broker/irq_steering.hpp"
#include "launcher/broker/rdma_device.hpp"
#include "launcher/system/link_flags.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"
#include "launcher/system/pci_function.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

/// How long a moved device may take to get its link back; a macvlan needs no time, its parent has carrier already.
constexpr int kLinkPatienceMs = 3000;
constexpr auto kKillPatience = std::chrono::seconds(2);

void apply_addresses(LinkSocket& inside, const Link& link, const LeaseRecord& record) {
  std::vector<IpPrefix> addresses = record.berth.addresses;
  if (record.berth.inherit_addresses)
    for (const IpPrefix& address : record.original.addresses)
      if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
  for (const IpPrefix& address : addresses) inside.add_address(link, address);
  for (const IpPrefix& gateway : record.berth.gateways) inside.add_default_route(link, gateway);
}

/// Several devices in one subnet: each answers for its own address only, and asks with it. This and the next two: in
/// the calling thread's netns.
void separate_arp() {
  write_control_file("/proc/sys/net/ipv4/conf/all/arp_ignore", "1");
  write_control_file("/proc/sys/net/ipv4/conf/all/arp_announce", "2");
}

/// Echo requests for everybody, as distributions allow them on the host (icmp(7)): ranks gain no privileges, so a ping
/// that has them from its file could not work.
void allow_ping() { write_control_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"); }

/// No duplicate address detection (ip-sysctl, accept_dad): while it runs, for a second or two after link-up, the device
/// has its link-local GID already but answers nobody who asks for it, and RDMA connections to it time out. The address
/// comes from the hardware address, which the PF keeps unique.
void use_addresses_at_once(const std::string& interface) {
  const std::string setting = fmt::format("/proc/sys/net/ipv6/conf/{}/accept_dad", interface);
  if (access(setting.c_str(), F_OK) == 0) write_control_file(setting, "0");  // else the kernel runs without IPv6
}

void apply_settings(const LeaseRecord& record, const UniqueFd& netns) {
  const NetnsGuard inside(netns);
  if (!record.foreign_netns) allow_ping();
  use_addresses_at_once(record.berth.interface);
  if (!record.berth.joins.empty()) separate_arp();
}

void bring_up(const LeaseRecord& record, const UniqueFd& netns) {
  const BerthSpec& berth = record.berth;
  apply_settings(record, netns);
  LinkSocket inside = LinkSocket::in_netns(netns);
  if (!record.foreign_netns) inside.change(inside.get("lo"), {.up = true});
  const Link link = inside.get(berth.interface);
  if (berth.mtu && link.mtu != *berth.mtu) inside.change(link, {.mtu = berth.mtu});
  inside.change(link, {.up = true});
  apply_addresses(inside, link, record);
  inside.wait_until_running(link, kLinkPatienceMs);
}

/// Whether Journal::read() made the record up because it could not read it: then it is quarantined already, says
/// nothing about the device, and the file is kept as evidence.
bool is_unreadable(const LeaseRecord& record) { return record.berth.parent.empty(); }

/// Where the netns is pinned that the device is in.
std::string netns_path_of(const Journal& journal, const LeaseRecord& record) {
  return journal.netns_path(netns_owner(record.berth));
}

/// Also without its pin a netns can be found again, as long as a process is in it. Its number alone proves nothing: the
/// kernel gives the number of a dead netns to the next one, which may be anybody's. The device does.
std::optional<UniqueFd> open_netns_for_taking_down(const Journal& journal, const LeaseRecord& record) {
  // A berth that is joined may have been rebuilt meanwhile, for somebody else.
  auto pinned = record.berth.joins.empty() ? open_pinned_netns(netns_path_of(journal, record))
                                           : open_recorded_netns(journal, record);
  if (pinned) return pinned;
  if (record.netns_inode == 0) return std::nullopt;
  const auto processes = read_processes_in_each({record.netns_inode});
  for (const int pid : processes.front()) {
    UniqueFd netns(open(fmt::format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns || netns_inode(netns) != record.netns_inode) continue;
    const auto link = LinkSocket::in_netns(netns).find(record.berth.interface);
    if (link && link->mac == berth_mac(record)) return netns;
  }
  return std::nullopt;
}

}  // namespace

UniqueFd set_up(const Journal& journal, LeaseRecord& record, const ForeignNetns* foreign) {
  const BerthSpec& berth = record.berth;
  record.original = read_original(berth);
  record.boot_id = journal.boot_id();
  record.phase = Phase::parking;
  record.netns_inode = foreign ? netns_inode(foreign->netns) : 0;
  record.foreign_netns = foreign != nullptr;
  record.owner.reset();
  if (foreign) record.owner = foreign->owner;
  record.last_uid.reset();
  record.reason.clear();
  UniqueFd netns;
  if (!berth.joins.empty() && berth.kind != PoolKind::host) {
    auto joined = open_pinned_netns(netns_path_of(journal, record));
    if (!joined)
      throw Error(ErrorCode::internal, fmt::format("cannot park {}", berth.id),
                  fmt::format("the berth of {} is gone", berth.joins));
    netns = std::move(*joined);
    record.netns_inode = netns_inode(netns);
  }
  journal.write(record);

  if (berth.kind != PoolKind::host) {
    if (!netns) {
      netns = foreign ? duplicate(foreign->netns) : create_netns();
      pin_netns(netns, journal.netns_path(berth.id));
    }
    bring_in(journal, record, netns);
    bring_up(record, netns);
    wait_for_rdma(record, netns);
    record.netns_inode = netns_inode(netns);
  }
  // A VF that was removed and made anew meanwhile has the same address, and nothing of what was set of the other.
  if (!still_exists(record))
    throw Error(ErrorCode::host, fmt::format("cannot park '{}'", berth.id), "the device was removed meanwhile");
  record.phase = foreign ? Phase::leased : Phase::parked;
  journal.write(record);
  return netns;
}

std::string take_down(const Journal& journal, LeaseRecord& record) {
  if (is_unreadable(record))
    throw Error(ErrorCode::host, fmt::format("cannot bring {} home", record.berth.id), record.reason,
                "bring it home by hand, then remove its record from the lease directory");
  restore_irqs(record);
  record.phase = Phase::unparking;
  record.reason.clear();
  journal.write(record);
  const auto netns = open_netns_for_taking_down(journal, record);
  if (netns && !record.foreign_netns)
    if (const auto left =
            kill_processes_in_each({netns_inode(*netns)}, std::chrono::steady_clock::now() + kKillPatience);
        !left.front().empty())
      throw Error(ErrorCode::host, fmt::format("cannot empty the berth of {}", record.berth.id),
                  fmt::format("process {} does not end", left.front().front()));
  bring_joined_home(journal, record);
  const bool exists = still_exists(record);
  if (exists) bring_home(journal, record, netns);
  if (record.berth.joins.empty()) unpin_netns(netns_path_of(journal, record));
  return exists ? "brought home" : "forgotten: the device was removed meanwhile";
}

std::optional<Lock> lock_joined_berth(const Journal& journal, const LeaseRecord& record) {
  const std::string& joined = record.berth.joins;
  if (joined.empty() || !journal.read(joined)) return std::nullopt;
  if (auto lock = journal.try_lock_device(joined)) return lock;
  throw Error(ErrorCode::busy, fmt::format("cannot use device {}", record.berth.id),
              fmt::format("it is in the berth of {}, which another process is changing", joined), "wait for it");
}

bool bring_joined_home(const Journal& journal, LeaseRecord& record) {
  if (record.joined.empty()) return true;
  std::erase_if(record.joined, [&](const std::string& id) {
    const auto joins = [&](const std::optional<LeaseRecord>& other) {
      return other && other->berth.joins == record.berth.id && other->netns_inode == record.netns_inode;
    };
    if (!joins(journal.read(id))) return true;
    const auto lock = journal.try_lock_device(id);
    if (!lock) return false;
    auto other = journal.read(id);
    if (!joins(other)) return true;
    try {
      take_down(journal, *other);
      forget(journal, other->berth);
      return true;
    } catch (const Error& error) {
      quarantine(journal, *other, error);
      return false;
    }
  });
  journal.write(record);
  return record.joined.empty();
}

void forget(const Journal& journal, const BerthSpec& berth) {
  journal.remove(berth.id);
  if (berth.pci) announce_netdev(*berth.pci);
}

UniqueFd rebuild(const Journal& journal, LeaseRecord& record, const BerthSpec& spec, const ForeignNetns* foreign) {
  try {
    if (journal.read(spec.id)) take_down(journal, record);
    journal.remove_record(spec.id);
    record = {};
    record.berth = spec;
    return set_up(journal, record, foreign);
  } catch (const Error& error) {
    if (journal.read(spec.id)) try {
        take_down(journal, record);
      } catch (const Error&) {
        quarantine(journal, record, error);
        throw error;
      }
    forget(journal, spec);
    throw;
  }
}

std::optional<UniqueFd> open_recorded_netns(const Journal& journal, const LeaseRecord& record) {
  auto netns = open_pinned_netns(netns_path_of(journal, record));
  if (netns && netns_inode(*netns) != record.netns_inode) return std::nullopt;
  return netns;
}

bool has_device(const LeaseRecord& record, const UniqueFd& netns, bool with_link) {
  const BerthSpec& berth = record.berth;
  if (berth.kind != PoolKind::host) {
    const NetnsGuard inside(netns);
    const auto flags = read_link_flags(berth.interface);
    if (!flags || !flags->up || (with_link && berth.kind == PoolKind::macvlan && !flags->running)) return false;
  }
  return is_rdma_ready(record, netns);
}

void quarantine(const Journal& journal, LeaseRecord& record, const Error& error) {
  if (is_unreadable(record)) return;
  record.phase = Phase::quarantined;
  record.reason = error.why.empty() ? error.what() : fmt::format("{}: {}", error.what(), error.why);
  journal.write(record);
}

}  // namespace berth
