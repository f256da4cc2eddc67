#include "launcher/broker/vf_settings.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "launcher/system/netlink_link.hpp"
#include "launcher/system/netlink_vf.hpp"
#include "launcher/system/pci_function.hpp"
#include "launcher/system/polling.hpp"

namespace berth {

namespace {

/// How long a driver may refuse or hide a change: as long as the VF resets.
constexpr auto kPatience = std::chrono::seconds(2);

/// What a VF is to its PF, and that PF, whose lock changes of the VF take.
std::pair<VfTarget, PciAddress> find_target(const PciAddress& vf) {
  const std::string what = fmt::format("cannot look at the attributes of VF {}", to_string(vf));
  const auto place = read_vf_place(vf);
  if (!place) throw Error(ErrorCode::host, what, "there is no such VF");
  const std::string name = read_pci_netdev(place->pf);
  const auto link = LinkSocket().find(name);
  if (!link)
    throw Error(ErrorCode::host, what, fmt::format("its PF {} has no network interface here", to_string(place->pf)),
                "check that the PF's driver is bound, and that its interface is in the host's network namespace");
  return {{.text = fmt::format("VF {} of {} ({})", place->index, name, to_string(vf)),
           .driver = read_pci_driver(place->pf),
           .pf_index = link->index,
           .vf = place->index},
          place->pf};
}

VfAttributes read(VfSocket& socket, const VfTarget& target) {
  const auto found = socket.find(target.pf_index, target.vf);
  if (!found)
    throw Error(ErrorCode::host, fmt::format("cannot look at the attributes of {}", target.text),
                fmt::format("driver {} does not report them", target.driver));
  return *found;
}

/// The attributes that are set in one message, by the keys that policy has for them.
struct Part {
  std::string keys;
  VfAttributes wanted;
};

/// In the order that works for all drivers known: some reset the VF for a new VLAN or MAC address and then forget the
/// rest. `now` gives the rate that is not wanted but has to be said along with the other.
std::vector<Part> make_parts(const VfAttributes& wanted, const VfAttributes& now) {
  std::vector<Part> parts;
  const auto add = [&](const char* keys, auto VfAttributes::*field) {
    if (wanted.*field) parts.emplace_back(Part{keys, {}}).wanted.*field = wanted.*field;
  };
  add("vlan", &VfAttributes::vlan);
  add("mac", &VfAttributes::mac);
  if (wanted.min_rate || wanted.max_rate) {
    Part& rates = parts.emplace_back(Part{!wanted.max_rate   ? "min_rate"
                                          : !wanted.min_rate ? "max_rate"
                                                             : "min_rate, max_rate",
                                          {}});
    rates.wanted.min_rate = wanted.min_rate ? wanted.min_rate : now.min_rate;
    rates.wanted.max_rate = wanted.max_rate ? wanted.max_rate : now.max_rate;
  }
  add("spoofchk", &VfAttributes::spoofchk);
  add("trust", &VfAttributes::trust);
  add("link_state", &VfAttributes::link_state);
  add("guid", &VfAttributes::node_guid);
  add("guid", &VfAttributes::port_guid);
  return parts;
}

Error refused(const VfTarget& target, const std::string& pool, const Part& part, const std::string& why) {
  return {ErrorCode::host,
          fmt::format("cannot set {} of {} to {}", part.keys, target.text, to_json_value(part.wanted).dump()), why,
          fmt::format("remove {} from [pool.vf] of pool \"{}\", or use a driver that can do it", part.keys, pool)};
}

Error refused(const VfTarget& target, const std::string& pool, const Part& part, VfSocket& socket, int error_number) {
  std::string why = system_error(error_number, {}, socket.origin()).why;
  if (error_number == EOPNOTSUPP) why = fmt::format("driver {} does not support it; {}", target.driver, why);
  if (error_number == EINVAL) why = fmt::format("driver {} refuses this value, or any; {}", target.driver, why);
  return refused(target, pool, part, why);
}

void set(VfSocket& socket, const VfTarget& target, const std::string& pool, const Part& part) {
  const auto holds = [&](const VfAttributes& now) { return select(now, part.wanted) == part.wanted; };
  if (holds(read(socket, target))) return;
  int error_number = 0;
  poll_until(kPatience, [&] {
    error_number = socket.change(target.pf_index, target.vf, part.wanted);
    return error_number != EBUSY && error_number != EAGAIN;
  });
  if (error_number != 0) throw refused(target, pool, part, socket, error_number);
  VfAttributes now;
  if (!poll_until(kPatience, [&] { return holds(now = read(socket, target)); }))
    throw refused(target, pool, part,
                  fmt::format("driver {} accepted that, but reports {}", target.driver,
                              to_json_value(select(now, part.wanted)).dump()));
}

void set_all(const Journal& journal, const BerthSpec& berth, const VfAttributes& wanted) {
  if (!berth.pci || wanted == VfAttributes{}) return;
  const auto [target, pf] = find_target(*berth.pci);
  const Lock lock = journal.lock_pf(pf);
  set_vf_attributes(target, berth.pool, wanted);
}

}  // namespace

VfAttributes select(const VfAttributes& all, const VfAttributes& like) {
  VfAttributes selected;
  const auto copy = [&](auto VfAttributes::*field) {
    if (like.*field) selected.*field = all.*field;
  };
  copy(&VfAttributes::vlan);
  copy(&VfAttributes::mac);
  copy(&VfAttributes::min_rate);
  copy(&VfAttributes::max_rate);
  copy(&VfAttributes::spoofchk);
  copy(&VfAttributes::trust);
  copy(&VfAttributes::link_state);
  copy(&VfAttributes::node_guid);
  copy(&VfAttributes::port_guid);
  return selected;
}

void set_vf_attributes(const VfTarget& target, const std::string& pool, const VfAttributes& wanted) {
  VfSocket socket;
  const VfAttributes now = read(socket, target);
  for (const Part& part : make_parts(wanted, now)) {
    // What is not known now could not be restored.
    if (select(part.wanted, now) != part.wanted)
      throw refused(target, pool, part, fmt::format("driver {} does not report it", target.driver));
    set(socket, target, pool, part);
  }
}

VfAttributes read_vf_settings(const PciAddress& vf) {
  VfSocket socket;
  return read(socket, find_target(vf).first);
}

void apply_vf_settings(const Journal& journal, const BerthSpec& berth) { set_all(journal, berth, berth.vf); }

void restore_vf_settings(const Journal& journal, const LeaseRecord& record) {
  set_all(journal, record.berth, select(record.original.vf, record.berth.vf));
}

}  // namespace berth
