// [[pool]]
#include "launcher/core/policy_pool.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "launcher/core/addresses.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/policy_rdma.hpp"
#include "launcher/core/policy_usnic.hpp"

namespace berth {
namespace {

constexpr std::size_t kRdmaNameSize = 64;  // IB_DEVICE_NAME_MAX
constexpr unsigned kMostBerths = 4096;     // per parent; SR-IOV hardware has fewer, and every macvlan costs memory

IpPrefix parse_prefix(const PolicySection& section, const PolicyString& value) {
  const auto prefix = parse_ip_prefix(value.text);
  if (!prefix) {
    section.refuse(value.where, fmt::format("'{}' is not an address with a prefix length", value.text),
                   "write it as 10.77.0.0/16 or fd77::/64");
  }
  return *prefix;
}

void check_parent(const PolicySection& section, const PolicyString& parent, PoolKind kind) {
  const std::string& text = parent.text;
  if (text.find_first_of("*?[") == std::string::npos) {
    if (parse_pci_address(text) || is_interface_name(text)) return;
    // A share of an RDMA device may be asked for by the device's own name, which has no more than a file name to obey.
    if (kind == PoolKind::host && text.size() < kRdmaNameSize && text.find_first_of("/% \\") == std::string::npos)
      return;
    section.refuse(parent.where, fmt::format("'{}' is neither an interface name nor a PCI address", text),
                   "names have 15 characters at most; PCI addresses look like 0000:3b:00.0");
  }
  constexpr std::size_t kLongestPattern = 64;
  if (text.size() > kLongestPattern || text.find_first_of("/% \\") != std::string::npos) {
    section.refuse(parent.where, fmt::format("'{}' cannot match an interface name or a PCI address", text));
  }
}

/// The least number of devices that the pool has on every node; wildcards may make it more.
std::uint64_t least_devices(const Pool& pool) { return pool.parents.size() * std::max(pool.berths_per_parent, 1U); }

std::uint64_t parse_nodes(const PolicySection& section, Pool& pool) {
  const auto nodes = section.string("nodes");
  if (pool.addresses.ranges.empty()) {
    if (nodes) section.refuse(nodes->where, "'nodes' numbers the nodes for address ranges, and there are none");
    return 0;
  }
  if (!nodes) {
    section.refuse("addresses", "address ranges need 'nodes'",
                   "list all nodes that share the ranges: nodes = \"n[001-128]\"");
  }
  try {
    const std::vector<std::string> hosts = expand_hostlist(nodes->text);
    std::set<std::string_view> seen;
    for (const std::string& host : hosts) {
      if (!seen.insert(host).second) section.refuse(nodes->where, fmt::format("'nodes' lists '{}' twice", host));
    }
    pool.addresses.nodes = nodes->text;
    return hosts.size();
  } catch (const Error& error) {
    if (error.what_text.starts_with("cannot use the policy")) throw;
    section.refuse(nodes->where, fmt::format("{}: {}", error.what_text, error.why), error.fix);
  }
}

void parse_addresses(const PolicySection& section, Pool& pool) {
  if (section.is_string("addresses")) {
    const PolicyString value = section.required_string("addresses");
    if (value.text != "inherit") {
      section.refuse(value.where, fmt::format("addresses = \"{}\" is neither \"inherit\" nor a list", value.text),
                     fmt::format("write a list: addresses = [\"{}\"]", value.text));
    }
    if (pool.kind == PoolKind::macvlan) {
      section.refuse(value.where, "a macvlan is made new, so it has no addresses to inherit",
                     "give address ranges: addresses = [\"10.77.0.0/16\"]");
    }
    pool.addresses.inherit = true;
  } else {
    for (const PolicyString& value : section.strings("addresses", false)) {
      const IpPrefix range = parse_prefix(section, value);
      for (const IpPrefix& earlier : pool.addresses.ranges) {
        if (covers(earlier, range) || covers(range, earlier)) {
          section.refuse(value.where, fmt::format("{} and {} overlap", to_string(earlier), to_string(range)));
        }
      }
      pool.addresses.ranges.push_back(range);
    }
  }
  const std::uint64_t nodes = parse_nodes(section, pool);
  for (const IpPrefix& range : pool.addresses.ranges) {
    const std::uint64_t needed = nodes * least_devices(pool);
    if (needed > host_capacity(range)) {
      section.refuse("addresses",
                     fmt::format("{} has {} addresses; {} nodes with {} devices need {}", to_string(range),
                                 host_capacity(range), nodes, least_devices(pool), needed),
                     "use a larger range, or fewer berths");
    }
  }

  std::set<IpPrefix::Family> families;
  for (const PolicyString& value : section.strings("gateways", false)) {
    const IpPrefix gateway = parse_prefix(section, value);
    if (!families.insert(gateway.family).second) {
      section.refuse(value.where, "there is another gateway of the same address family", "keep one of them");
    }
    const auto& ranges = pool.addresses.ranges;
    const auto range =
        std::find_if(ranges.begin(), ranges.end(), [&](const IpPrefix& each) { return covers(each, gateway); });
    if (range == ranges.end() && !pool.addresses.inherit) {
      section.refuse(value.where, fmt::format("the gateway {} is in none of the address ranges", value.text));
    }
    if (range != ranges.end() && device_capacity(*range, {gateway}) < nodes * least_devices(pool)) {
      section.refuse(value.where, fmt::format("the gateway {} has an address that a device gets", value.text),
                     "use one at the end of the range");
    }
    pool.gateways.push_back(gateway);
  }
}

}  // namespace

std::vector<std::string> pool_keys() {
  std::vector<std::string> keys = {"name",  "kind", "parents",  "berths", "park", "interface", "addresses",
                                   "nodes", "mtu",  "gateways", "vf",     "gres", "order",     "shortage"};
  for (std::string& key : rdma_keys()) keys.push_back(std::move(key));
  for (std::string& key : usnic_keys()) keys.push_back(std::move(key));
  return keys;
}

Pool parse_pool(PolicySection section) {
  Pool pool;
  const PolicyString name = section.required_string("name");
  if (!is_pool_name(name.text)) {
    section.refuse(name.where, fmt::format("'{}' is not a name for a pool", name.text),
                   "use up to 64 letters, digits, '.', '_' and '-', starting with a letter or digit");
  }
  pool.name = name.text;
  section.title = fmt::format("[[pool]] \"{}\"", pool.name);

  pool.kind = section.required_choice("kind", kPoolKinds);
  pool.usnic = parse_usnic(section, pool.kind);
  pool.rdma = parse_rdma(section, pool.kind);
  if (!section.has("parents")) section.refuse("parents", "'parents' is missing", "parents = [\"eth1\"]");
  const std::vector<PolicyString> parents = section.strings("parents", false);
  for (const PolicyString& parent : parents) check_parent(section, parent, pool.kind);
  pool.parents = texts_of(parents);

  pool.berths_per_parent = static_cast<unsigned>(section.number("berths", 1, kMostBerths).value_or(0));
  if (pool.kind == PoolKind::macvlan && pool.berths_per_parent == 0) {
    section.refuse("berths", "'berths' is missing", "say how many macvlan devices each parent gets: berths = 8");
  }
  pool.order = section.choice("order", {PlacementOrder::locality, PlacementOrder::balance}).value_or(pool.order);
  pool.shortage = section.choice("shortage", {Shortage::fail, Shortage::share, Shortage::some}).value_or(pool.shortage);
  if (is_in_host_network(pool)) {
    if (pool.kind == PoolKind::host && pool.berths_per_parent == 0)
      section.refuse("berths", "'berths' is missing", "say how many ranks may share each device: berths = 8");
    for (const char* key : {"park", "interface", "addresses", "nodes", "mtu", "gateways"})
      if (section.has(key))
        section.refuse(key, fmt::format("'{}' makes no sense in the host's network, which the ranks share", key));
    pool.interface.clear();
    pool.park = Park::never;
    return pool;
  }
  // A NIC that a wildcard catches could be the one that the node itself is reached by.
  if (pool.kind == PoolKind::pf || pool.kind == PoolKind::usnic)
    for (const PolicyString& parent : parents)
      if (parent.text.find_first_of("*?[") != std::string::npos)
        section.refuse(parent.where, "whole NICs leave the host, so each has to be named", "write their PCI addresses");
  if (pool.kind == PoolKind::pf) {
    for (const char* key : {"berths", "park", "rdma"})
      if (section.has(key))
        section.refuse(key, fmt::format("'{}' makes no sense for a whole NIC, which is one device, and home between "
                                        "two steps",
                                        key));
    pool.berths_per_parent = 1;
    pool.park = Park::never;
  }
  pool.park = section.choice("park", {Park::boot, Park::first_use, Park::never}).value_or(pool.park);
  if (const auto interface = section.string("interface")) {
    if (!is_interface_name(interface->text) || interface->text == "lo") {
      section.refuse(interface->where, fmt::format("'{}' is not a name for an interface", interface->text),
                     "use 1 to 15 characters without '/', ':', '%' and spaces, for example rdma0");
    }
    pool.interface = interface->text;
  }
  if (const auto gres = section.string("gres")) {
    // Slurm reads ':', ',' and '(' itself, and "none" as nothing.
    if (!is_pool_name(gres->text) || gres->text == "none") {
      section.refuse(gres->where, fmt::format("'{}' is not a name for a generic resource of Slurm", gres->text),
                     "use up to 64 letters, digits, '.', '_' and '-', starting with a letter or digit: gres = \"vf\"");
    }
    pool.gres = gres->text;
  }
  parse_addresses(section, pool);
  if (pool.kind == PoolKind::usnic) check_usnic_addresses(section, pool.addresses);

  const auto& ranges = pool.addresses.ranges;
  const bool v6 = std::any_of(ranges.begin(), ranges.end(),
                              [](const IpPrefix& range) { return range.family == IpPrefix::Family::v6; });
  // The kernel's least MTU for IPv4, or IPv6's own; an IPv6 range on less would get no address.
  if (const auto mtu = section.number("mtu", v6 ? 1280 : 68, 65535)) pool.mtu = static_cast<unsigned>(*mtu);
  if (const auto vf = section.section("vf", {"mac", "vlan", "vlan_qos", "vlan_protocol", "min_rate", "max_rate",
                                             "spoofchk", "trust", "link_state", "guid"})) {
    if (pool.kind != PoolKind::sriov) section.refuse("vf", "only pools with kind = \"sriov\" have VFs");
    pool.vf = parse_vf_policy(*vf);
  }
  return pool;
}

}  // namespace berth
