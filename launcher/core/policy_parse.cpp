#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "launcher/core/addresses.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/policy_file.hpp"
#include "launcher/core/policy_rdma.hpp"

namespace berth {
namespace {

constexpr std::size_t kRdmaNameSize = 64;  // IB_DEVICE_NAME_MAX
constexpr unsigned kMostBerths = 4096;     // per parent; SR-IOV hardware has fewer, and every macvlan costs memory

std::vector<std::string> texts_of(const std::vector<PolicyString>& strings) {
  std::vector<std::string> texts;
  texts.reserve(strings.size());
  for (const PolicyString& string : strings) texts.push_back(string.text);
  return texts;
}

/// The one of `choices` whose to_string() is the value of `key`.
template <typename Choice>
Choice choose(const PolicySection& section, const PolicyString& value, std::string_view key,
              const std::vector<Choice>& choices) {
  std::vector<std::string> known;
  for (const Choice choice : choices) {
    if (value.text == to_string(choice)) return choice;
    known.emplace_back(to_string(choice));
  }
  section.refuse_choice(value, key, known);
}

std::vector<std::string> parse_paths(const PolicySection& section, std::string_view key) {
  std::vector<std::string> paths;
  for (const PolicyString& value : section.strings(key, true)) {
    auto path = parse_absolute_path(value.text);
    if (!path) {
      section.refuse(value.where, fmt::format("'{}' is not an absolute path without '..'", value.text),
                     "write the full path, starting with '/'");
    }
    paths.push_back(std::move(*path));
  }
  return paths;
}

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

Pool parse_pool(PolicySection section) {
  Pool pool;
  const PolicyString name = section.required_string("name");
  if (!is_pool_name(name.text)) {
    section.refuse(name.where, fmt::format("'{}' is not a name for a pool", name.text),
                   "use up to 64 letters, digits, '.', '_' and '-', starting with a letter or digit");
  }
  pool.name = name.text;
  section.title = fmt::format("[[pool]] \"{}\"", pool.name);

  pool.kind = choose<PoolKind>(section, section.required_string("kind"), "kind",
                               {PoolKind::macvlan, PoolKind::sriov, PoolKind::host});
  pool.rdma = parse_rdma(section, pool.kind);
  if (!section.has("parents")) section.refuse("parents", "'parents' is missing", "parents = [\"eth1\"]");
  const std::vector<PolicyString> parents = section.strings("parents", false);
  for (const PolicyString& parent : parents) check_parent(section, parent, pool.kind);
  pool.parents = texts_of(parents);

  pool.berths_per_parent = static_cast<unsigned>(section.number("berths", 1, kMostBerths).value_or(0));
  if (pool.kind == PoolKind::macvlan && pool.berths_per_parent == 0) {
    section.refuse("berths", "'berths' is missing", "say how many macvlan devices each parent gets: berths = 8");
  }
  if (const auto order = section.string("order"))
    pool.order = choose<PlacementOrder>(section, *order, "order", {PlacementOrder::locality, PlacementOrder::balance});
  if (const auto shortage = section.string("shortage"))
    pool.shortage = choose<Shortage>(section, *shortage, "shortage", {Shortage::fail, Shortage::share, Shortage::some});
  if (pool.kind == PoolKind::host) {
    if (pool.berths_per_parent == 0)
      section.refuse("berths", "'berths' is missing", "say how many ranks may share each device: berths = 8");
    for (const char* key : {"park", "interface", "addresses", "nodes", "mtu", "gateways"})
      if (section.has(key))
        section.refuse(key, fmt::format("'{}' makes no sense in the host's network, which the ranks share", key));
    pool.interface.clear();
    pool.park = Park::never;
    return pool;
  }
  if (const auto park = section.string("park")) {
    pool.park = choose<Park>(section, *park, "park", {Park::boot, Park::first_use, Park::never});
  }
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

AllowRule parse_allow(const PolicySection& section, const std::vector<std::string>& pools) {
  AllowRule rule;
  rule.users = texts_of(section.strings("users", false));
  rule.groups = texts_of(section.strings("groups", false));
  rule.accounts = texts_of(section.strings("accounts", false));
  for (const PolicyString& pool : section.strings("pools", false)) {
    if (pool.text != "*" && std::find(pools.begin(), pools.end(), pool.text) == pools.end()) {
      const auto nearest = nearest_word(pool.text, pools);
      section.refuse(pool.where, fmt::format("there is no pool \"{}\"", pool.text),
                     nearest ? fmt::format("did you mean '{}'?", *nearest) : "add it as [[pool]]");
    }
    rule.pools.push_back(pool.text);
  }
  if (const auto most = section.number("max_devices", 1, 65535)) rule.max_devices = static_cast<unsigned>(*most);
  return rule;
}

ImagePolicy parse_images(const PolicySection& section) {
  ImagePolicy images;
  images.paths = parse_paths(section, "paths");
  if (const auto kernel_mount = section.string("kernel_mount")) {
    if (kernel_mount->text != "trusted" && kernel_mount->text != "never") {
      section.refuse_choice(*kernel_mount, "kernel_mount", {"trusted", "never"});
    }
    images.kernel_mount = kernel_mount->text == "never" ? KernelMount::never : KernelMount::trusted;
  }
  return images;
}

MountPolicy parse_mounts(const PolicySection& section) {
  MountPolicy mounts;
  mounts.home = section.flag("home").value_or(mounts.home);
  mounts.working_directory = section.flag("working_directory").value_or(mounts.working_directory);
  mounts.allowed = parse_paths(section, "allowed");
  for (const PolicyString& value : section.strings("always", true)) {
    try {
      mounts.always.push_back(parse_mount(value.text));
    } catch (const Error& error) {
      section.refuse(value.where, fmt::format("{}: {}", error.what_text, error.why), error.fix);
    }
    const auto same_target = [&](const MountRequest& mount) { return mount.target == mounts.always.back().target; };
    if (std::any_of(mounts.always.begin(), mounts.always.end() - 1, same_target)) {
      section.refuse(value.where, fmt::format("'{}' is the target of two mounts", mounts.always.back().target));
    }
  }
  for (const PolicyString& value : section.strings("devices", true)) {
    const auto path = parse_absolute_path(value.text);
    if (!path || !path->starts_with("/dev/")) {
      section.refuse(value.where, fmt::format("'{}' is not a path below /dev", value.text),
                     "write it as \"/dev/nvidia*\"");
    }
    mounts.devices.push_back(*path);
  }
  return mounts;
}

/// Whether every "${" of `value` opens the name of a variable and is closed.
bool has_valid_references(std::string_view value) {
  for (std::size_t begin = value.find("${"); begin != std::string_view::npos; begin = value.find("${", begin + 2)) {
    const std::size_t end = value.find('}', begin);
    if (end == std::string_view::npos || !is_environment_name(value.substr(begin + 2, end - begin - 2))) return false;
  }
  return true;
}

std::vector<EnvironmentChange> parse_environment(const PolicySection& section) {
  using Action = EnvironmentChange::Action;
  std::vector<EnvironmentChange> changes;
  const auto check_name = [&](const PolicyString& name) {
    if (is_environment_name(name.text)) return;
    section.refuse(name.where, fmt::format("'{}' is not the name of a variable", name.text),
                   "use letters, digits and '_', not starting with a digit");
  };
  std::set<std::string> unset;
  for (const PolicyString& name : section.strings("unset", true)) {
    check_name(name);
    unset.insert(name.text);
    changes.push_back({Action::unset, name.text, ""});
  }
  const std::vector<std::pair<std::string_view, Action>> tables = {
      {"set", Action::set}, {"prepend", Action::prepend}, {"append", Action::append}};
  for (const auto& [key, action] : tables) {
    const auto table = section.section(key, {});
    if (!table) continue;
    for (const auto& [name, value] : table->entries()) {
      check_name(name);
      if (unset.count(name.text) > 0) {
        section.refuse(name.where, fmt::format("'{}' is in 'unset' as well", name.text), "keep one of them");
      }
      if (!has_valid_references(value)) {
        section.refuse(name.where, fmt::format("the value of '{}' has a '${{' that names no variable", name.text),
                       "write ${NAME}");
      }
      changes.push_back({action, name.text, value});
    }
  }
  return changes;
}

std::uint64_t parse_memlock(const PolicySection& section) {
  if (!section.is_string("memlock")) return *section.number("memlock", 0, INT64_MAX);
  const PolicyString value = section.required_string("memlock");
  if (value.text == "unlimited") return UINT64_MAX;

  std::uint64_t amount = 0;
  const char* end = value.text.data() + value.text.size();
  const auto [unit, error] = std::from_chars(value.text.data(), end, amount);
  unsigned shift = 10;
  for (const std::string_view known : {"KiB", "MiB", "GiB", "TiB"}) {
    if (error == std::errc{} && std::string_view(unit, static_cast<std::size_t>(end - unit)) == known) {
      if (amount > static_cast<std::uint64_t>(INT64_MAX) >> shift)
        section.refuse(value.where, "'memlock' is too large");
      return amount << shift;
    }
    shift += 10;
  }
  section.refuse(value.where, fmt::format("memlock = \"{}\" is not an amount of memory", value.text),
                 "write \"unlimited\", a number of bytes, or a number with KiB, MiB, GiB or TiB: \"8GiB\"");
}

}  // namespace

Policy parse_policy(std::string_view text, const std::string& source) {
  const PolicyFile file(text, source);
  if (file.root().empty()) {
    file.refuse({1, 1}, "the file is empty, so it allows nothing", "start from the example in docs/policy.md");
  }
  const PolicySection root(file, file.root(), "",
                           {"version", "pool", "allow", "images", "mounts", "environment", "pinning", "limits"});
  if (!root.has("version")) root.refuse({1, 1}, "'version' is missing", "write version = 1 at the top");
  if (root.number("version", 0, INT64_MAX) != 1) root.refuse("version", "this Berth reads version 1 only");

  Policy policy;
  policy.source = source;
  std::vector<std::string> names;
  std::vector<std::string> pool_keys = {"name",  "kind", "parents",  "berths", "park", "interface", "addresses",
                                        "nodes", "mtu",  "gateways", "vf",     "gres", "order",     "shortage"};
  for (std::string& key : rdma_keys()) pool_keys.push_back(std::move(key));
  for (const PolicySection& section : root.sections("pool", pool_keys)) {
    policy.pools.push_back(parse_pool(section));
    const std::string& name = policy.pools.back().name;
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      section.refuse("name", fmt::format("there is another pool \"{}\"", name), "give each pool its own name");
    }
    for (auto other = policy.pools.begin(); other + 1 != policy.pools.end(); ++other) {
      if (policy.pools.back().gres.empty() || other->gres != policy.pools.back().gres) continue;
      section.refuse("gres",
                     fmt::format("pool \"{}\" has the generic resource \"{}\" already", other->name, other->gres),
                     "give each pool its own: Slurm's numbers are positions in one pool");
    }
    names.push_back(name);
  }
  for (const PolicySection& section : root.sections("allow", {"users", "groups", "accounts", "pools", "max_devices"})) {
    policy.allow.push_back(parse_allow(section, names));
  }
  if (root.has("allow") && policy.allow.empty()) {
    root.refuse("allow", "'allow' is an empty list", "leave the key out to allow everybody, or add [[allow]] rules");
  }
  if (const auto images = root.section("images", {"paths", "kernel_mount"})) policy.images = parse_images(*images);
  if (const auto mounts = root.section("mounts", {"home", "working_directory", "allowed", "always", "devices"})) {
    policy.mounts = parse_mounts(*mounts);
  }
  if (const auto environment = root.section("environment", {"set", "prepend", "append", "unset"})) {
    policy.environment = parse_environment(*environment);
  }
  if (const auto pinning = root.section("pinning", {"default"}); pinning && pinning->has("default")) {
    policy.pin = choose<Pin>(*pinning, pinning->required_string("default"), "default",
                             {Pin::cpus, Pin::cpus_and_memory, Pin::off});
  }
  if (const auto limits = root.section("limits", {"memlock"}); limits && limits->has("memlock")) {
    policy.memlock = parse_memlock(*limits);
  }
  return policy;
}

}  // namespace berth
