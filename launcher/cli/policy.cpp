#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/policy_file.hpp"

namespace berth {
namespace {

std::string counted(unsigned number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

/// What a pool's devices are, in words.
std::string describe_devices(const Pool& pool) {
  const std::string parents = fmt::format("{}", fmt::join(pool.parents, ", "));
  switch (pool.kind) {
    case PoolKind::macvlan:
      return fmt::format("{} on each of {}", counted(pool.berths_per_parent, "macvlan device"), parents);
    case PoolKind::sriov:
      return pool.berths_per_parent == 0
                 ? fmt::format("every SR-IOV VF of {}", parents)
                 : fmt::format("the first {} SR-IOV VFs of each of {}", pool.berths_per_parent, parents);
    case PoolKind::pf:
      return fmt::format("the whole NICs {}", parents);
    case PoolKind::host:
      return fmt::format("RDMA devices of {} in the host's network, {} on each", parents,
                         counted(pool.berths_per_parent, "rank"));
    case PoolKind::usnic:
      return is_in_host_network(pool) ? fmt::format("usNIC of {} in the host's network, shared by ranks with {} each",
                                                    parents, counted(pool.usnic.qps_per_rank, "QP"))
                                      : fmt::format("usNIC of {}, a whole vNIC for each rank", parents);
  }
  return {};
}

std::string describe(const Pool& pool) {
  std::string text = describe_devices(pool);
  if (is_in_host_network(pool)) return text;
  if (pool.rdma.mode != RdmaMode::off) text += fmt::format(", RDMA {}", to_string(pool.rdma.mode));
  return text + fmt::format(", {} inside, parked: {}", pool.interface, to_string(pool.park));
}

/// Why processes with privileges would not use the file; empty if they would.
std::string read_distrust(const std::string& path) {
  try {
    read_policy_file(path, true);
    return {};
  } catch (const Error& error) {
    return error.why;
  }
}

void check(const std::string& path, bool json) {
  const Policy policy = read_policy_file(path, false);
  const std::string distrust = read_distrust(path);
  if (json) {
    nlohmann::json pools = nlohmann::json::array();
    for (const Pool& pool : policy.pools) {
      pools.push_back({{"name", pool.name},
                       {"kind", to_string(pool.kind)},
                       {"parents", pool.parents},
                       {"berths_per_parent", pool.berths_per_parent},
                       {"park", to_string(pool.park)},
                       {"interface", pool.interface},
                       {"rdma", to_string(pool.rdma.mode)}});
    }
    print_json(nlohmann::json{{"file", path},
                              {"valid", true},
                              {"distrusted", distrust},
                              {"pools", pools},
                              {"onload", policy.onload.enabled},
                              {"allow_rules", policy.allow.size()}}
                   .dump(2));
    return;
  }
  fmt::print("{}: valid\n", path);
  for (const Pool& pool : policy.pools) fmt::print("  pool \"{}\": {}\n", pool.name, describe(pool));
  if (policy.pools.empty()) fmt::print("  no pool: nobody can get a device\n");
  fmt::print("  {}\n", policy.allow.empty()
                           ? "no allow rule: everybody may use every pool"
                           : fmt::format("{} allow rule{}", policy.allow.size(), policy.allow.size() == 1 ? "" : "s"));
  if (policy.onload.enabled) fmt::print("  OpenOnload of the node, for ranks that ask for it\n");
  if (!distrust.empty()) fmt::print("  note: processes with privileges would refuse this file: {}\n", distrust);
}

}  // namespace

void add_policy_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("policy", "Look after the policy file.");
  verb->require_subcommand(1);
  CLI::App* check_verb = verb->add_subcommand("check", "Read a policy file and say what it means.");
  const auto path = std::make_shared<std::string>();
  check_verb->add_option("FILE", *path, "policy file (default: the one of --policy)");
  check_verb->footer(
      "Example:\n  berth policy check ./new-policy.toml && sudo install -m 644 new-policy.toml "
      "/etc/berth/policy.toml");
  check_verb->callback([path, &options] { check(path->empty() ? options.policy_path : *path, options.json); });
}

}  // namespace berth
