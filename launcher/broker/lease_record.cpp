// The text form of a lease record.
#include <fmt/format.h>

#include <initializer_list>
#include <nlohmann/json.hpp>

#include "launcher/broker/journal.hpp"

namespace berth {

namespace {

using nlohmann::json;

constexpr int kRecordVersion = 1;

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::parking:
      return "parking";
    case Phase::parked:
      return "parked";
    case Phase::leased:
      return "leased";
    case Phase::releasing:
      return "releasing";
    case Phase::unparking:
      return "unparking";
    case Phase::quarantined:
      return "quarantined";
  }
  return "?";
}

[[noreturn]] void fail(const std::string& why) { throw Error(ErrorCode::host, "cannot read a lease record", why); }

template <typename Value>
Value require(std::optional<Value> value, const char* key, const std::string& text) {
  if (!value) fail(fmt::format("'{}' is no {}", text, key));
  return *value;
}

template <typename Enum, typename ToText>
Enum parse_word(const json& object, const char* key, std::initializer_list<Enum> all, ToText to_text) {
  const auto word = object.at(key).get<std::string>();
  for (const Enum value : all)
    if (to_text(value) == word) return value;
  fail(fmt::format("'{}' is no {}", word, key));
}

json make_prefixes(const std::vector<IpPrefix>& prefixes) {
  json list = json::array();
  for (const IpPrefix& prefix : prefixes) list.push_back(to_string(prefix));
  return list;
}

std::vector<IpPrefix> parse_prefixes(const json& object, const char* key) {
  std::vector<IpPrefix> prefixes;
  for (const json& text : object.at(key))
    prefixes.push_back(require(parse_ip_prefix(text.get<std::string>()), "address", text.get<std::string>()));
  return prefixes;
}

json make_rdma(const RdmaSettings& rdma) {
  json object = {{"mode", to_string(rdma.mode)},
                 {"self_test", rdma.self_test},
                 {"device_rules", rdma.device_rules},
                 {"selinux_label", rdma.selinux_label}};
  if (rdma.hca_handles) object["hca_handles"] = *rdma.hca_handles;
  if (rdma.hca_objects) object["hca_objects"] = *rdma.hca_objects;
  return object;
}

RdmaSettings parse_rdma(const json& object) {
  RdmaSettings rdma;
  rdma.mode = parse_word(object, "mode", {RdmaMode::off, RdmaMode::exclusive, RdmaMode::shared},
                         [](RdmaMode mode) { return to_string(mode); });
  object.at("self_test").get_to(rdma.self_test);
  object.at("device_rules").get_to(rdma.device_rules);
  object.at("selinux_label").get_to(rdma.selinux_label);
  if (object.contains("hca_handles")) rdma.hca_handles = object["hca_handles"].get<unsigned>();
  if (object.contains("hca_objects")) rdma.hca_objects = object["hca_objects"].get<unsigned>();
  return rdma;
}

json make_berth(const BerthSpec& berth) {
  json object = {{"id", berth.id},
                 {"pool", berth.pool},
                 {"kind", to_string(berth.kind)},
                 {"parent", berth.parent},
                 {"index", berth.index},
                 {"interface", berth.interface},
                 {"park", to_string(berth.park)},
                 {"inherit_addresses", berth.inherit_addresses},
                 {"addresses", make_prefixes(berth.addresses)},
                 {"gateways", make_prefixes(berth.gateways)}};
  if (berth.pci) object["pci"] = to_string(*berth.pci);
  if (berth.mtu) object["mtu"] = *berth.mtu;
  if (berth.numa_node) object["numa_node"] = *berth.numa_node;
  if (!berth.joins.empty()) object["joins"] = berth.joins;
  if (berth.rdma != RdmaSettings{}) object["rdma"] = make_rdma(berth.rdma);
  if (berth.vf != VfAttributes{}) object["vf"] = to_json_value(berth.vf);
  return object;
}

BerthSpec parse_berth(const json& object) {
  BerthSpec berth;
  object.at("id").get_to(berth.id);
  object.at("pool").get_to(berth.pool);
  berth.kind = parse_word(object, "kind", kPoolKinds, [](PoolKind k) { return to_string(k); });
  object.at("parent").get_to(berth.parent);
  object.at("index").get_to(berth.index);
  object.at("interface").get_to(berth.interface);
  berth.park =
      parse_word(object, "park", {Park::boot, Park::first_use, Park::never}, [](Park p) { return to_string(p); });
  object.at("inherit_addresses").get_to(berth.inherit_addresses);
  berth.addresses = parse_prefixes(object, "addresses");
  berth.gateways = parse_prefixes(object, "gateways");
  if (object.contains("pci")) {
    const auto text = object["pci"].get<std::string>();
    berth.pci = require(parse_pci_address(text), "PCI address", text);
  }
  if (object.contains("mtu")) berth.mtu = object["mtu"].get<unsigned>();
  if (object.contains("numa_node")) berth.numa_node = object["numa_node"].get<unsigned>();
  if (object.contains("joins")) object["joins"].get_to(berth.joins);
  if (object.contains("rdma")) berth.rdma = parse_rdma(object["rdma"]);
  if (object.contains("vf")) berth.vf = parse_vf_attributes(object["vf"]);
  return berth;
}

json make_original(const OriginalState& original) {
  json object = {{"name", original.name},
                 {"mac", to_string(original.mac)},
                 {"mtu", original.mtu},
                 {"up", original.up},
                 {"addresses", make_prefixes(original.addresses)},
                 {"without_broadcast", make_prefixes(original.without_broadcast)},
                 {"pci_instance", original.pci_instance},
                 {"driver", original.driver}};
  if (!original.rdma_device.empty()) {
    object["rdma_device"] = original.rdma_device;
    object["rdma_port"] = original.rdma_port;
  }
  if (original.vf != VfAttributes{}) object["vf"] = to_json_value(original.vf);
  return object;
}

OriginalState parse_original(const json& object) {
  OriginalState original;
  object.at("name").get_to(original.name);
  const auto mac = object.at("mac").get<std::string>();
  original.mac = require(parse_mac_address(mac), "MAC address", mac);
  object.at("mtu").get_to(original.mtu);
  object.at("up").get_to(original.up);
  original.addresses = parse_prefixes(object, "addresses");
  original.without_broadcast = parse_prefixes(object, "without_broadcast");
  if (object.contains("rdma_device")) {
    object["rdma_device"].get_to(original.rdma_device);
    object.at("rdma_port").get_to(original.rdma_port);
  }
  object.at("pci_instance").get_to(original.pci_instance);
  object.at("driver").get_to(original.driver);
  if (object.contains("vf")) original.vf = parse_vf_attributes(object["vf"]);
  return original;
}

json make_irqs(const std::vector<IrqAffinity>& irqs) {
  json list = json::array();
  for (const auto& [irq, cpus] : irqs) list.push_back({{"irq", irq}, {"cpus", to_string(cpus)}});
  return list;
}

std::vector<IrqAffinity> parse_irqs(const json& list) {
  std::vector<IrqAffinity> irqs;
  for (const json& object : list) {
    const auto text = object.at("cpus").get<std::string>();
    irqs.push_back({object.at("irq").get<unsigned>(), require(parse_cpu_list(text), "list of CPUs", text)});
  }
  return irqs;
}

json make_owner(const LeaseOwner& owner) {
  json object = {{"job", owner.job},
                 {"step", owner.step},
                 {"launcher_pid", owner.launcher_pid},
                 {"uid", owner.uid},
                 {"user", owner.user},
                 {"ranks", owner.ranks},
                 {"processes", owner.processes},
                 {"broker", {{"pid", owner.broker.pid}, {"start_time", owner.broker.start_time}}}};
  if (!owner.container.empty()) object["container"] = owner.container;
  return object;
}

LeaseOwner parse_owner(const json& object) {
  LeaseOwner owner;
  object.at("job").get_to(owner.job);
  object.at("step").get_to(owner.step);
  object.at("launcher_pid").get_to(owner.launcher_pid);
  object.at("uid").get_to(owner.uid);
  object.at("user").get_to(owner.user);
  object.at("ranks").get_to(owner.ranks);
  if (object.contains("processes")) object["processes"].get_to(owner.processes);
  if (object.contains("container")) object["container"].get_to(owner.container);
  object.at("broker").at("pid").get_to(owner.broker.pid);
  object.at("broker").at("start_time").get_to(owner.broker.start_time);
  return owner;
}

}  // namespace

std::string step_name(std::uint32_t job, std::uint32_t step, int launcher_pid) {
  if (job == 0) return fmt::format("process {}", launcher_pid);
  switch (step) {
    case kBatchStep:
      return fmt::format("job {}.batch", job);
    case kExternStep:
      return fmt::format("job {}.extern", job);
    case kInteractiveStep:
      return fmt::format("job {}.interactive", job);
    default:
      return fmt::format("job {}.{}", job, step);
  }
}

// As podman and Docker write those that they have made themselves.
std::string short_container_id(const std::string& id) {
  constexpr std::size_t kGenerated = 64;
  constexpr std::size_t kShort = 12;
  return id.size() == kGenerated && id.find_first_not_of("0123456789abcdef") == std::string::npos ? id.substr(0, kShort)
                                                                                                  : id;
}

std::string to_string(const LeaseOwner& owner) {
  if (!owner.container.empty())
    return fmt::format("container {} ({})", short_container_id(owner.container), owner.user);
  return fmt::format("{} ({})", step_name(owner.job, owner.step, owner.launcher_pid), owner.user);
}

// A user name in another encoding must not make a record unwritable.
std::string to_json_text(const LeaseOwner& owner) {
  return make_owner(owner).dump(-1, ' ', false, json::error_handler_t::replace);
}

LeaseOwner parse_lease_owner(const std::string& text) {
  try {
    return parse_owner(json::parse(text));
  } catch (const json::exception& error) {
    fail(error.what());
  }
}

std::string to_json_text(const LeaseRecord& record) {
  json object = {{"version", kRecordVersion},
                 {"berth", make_berth(record.berth)},
                 {"boot_id", record.boot_id},
                 {"phase", phase_name(record.phase)},
                 {"netns_inode", record.netns_inode}};
  if (record.foreign_netns) object["foreign_netns"] = true;
  if (record.original != OriginalState{}) object["original"] = make_original(record.original);
  if (!record.joined.empty()) object["joined"] = record.joined;
  if (!record.irqs.empty()) object["irqs"] = make_irqs(record.irqs);
  if (record.owner) object["owner"] = make_owner(*record.owner);
  if (record.last_uid) object["last_uid"] = *record.last_uid;
  if (!record.reason.empty()) object["reason"] = record.reason;
  return object.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

LeaseRecord parse_lease_record(const std::string& text) {
  try {
    const json object = json::parse(text);
    if (const int version = object.at("version").get<int>(); version != kRecordVersion)
      fail(fmt::format("its version is {}, this program knows {}", version, kRecordVersion));
    LeaseRecord record;
    record.berth = parse_berth(object.at("berth"));
    object.at("boot_id").get_to(record.boot_id);
    record.phase = parse_word(
        object, "phase",
        {Phase::parking, Phase::parked, Phase::leased, Phase::releasing, Phase::unparking, Phase::quarantined},
        [](Phase phase) { return std::string_view(phase_name(phase)); });
    object.at("netns_inode").get_to(record.netns_inode);
    if (object.contains("foreign_netns")) object["foreign_netns"].get_to(record.foreign_netns);
    if (object.contains("original")) record.original = parse_original(object["original"]);
    if (object.contains("joined")) object["joined"].get_to(record.joined);
    if (object.contains("irqs")) record.irqs = parse_irqs(object["irqs"]);
    if (object.contains("owner")) record.owner = parse_owner(object["owner"]);
    if (object.contains("last_uid")) record.last_uid = object["last_uid"].get<std::uint32_t>();
    if (object.contains("reason")) object["reason"].get_to(record.reason);
    return record;
  } catch (const json::exception& error) {
    fail(error.what());
  }
}

}  // namespace berth
