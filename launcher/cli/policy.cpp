#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/policy_file.hpp"

namespace berth {
namespace {

/// What a pool's devices are, in words.
std::string describe(const Pool& pool) {
  const std::string parents = fmt::format("{}", fmt::join(pool.parents, ", "));
  std::string text = pool.kind == PoolKind::macvlan
                         ? fmt::format("{} macvlan device{} on each of {}", pool.berths_per_parent,
                                       pool.berths_per_parent == 1 ? "" : "s", parents)
                     : pool.berths_per_parent == 0
                         ? fmt::format("every SR-IOV VF of {}", parents)
                         : fmt::format("the first {} SR-IOV VFs of each of {}", pool.berths_per_parent, parents);
  if (pool.kind == PoolKind::pf) text = fmt::format("the whole NICs {}", parents);
  if (pool.kind == PoolKind::host)
    return fmt::format("RDMA devices of {} in the host's network, {} rank{} on each", parents, pool.berths_per_parent,
                       pool.berths_per_parent == 1 ? "" : "s");
  if (pool.kind == PoolKind::usnic) {
    text = fmt::format("usNIC of {}", parents);
    if (is_in_host_network(pool))
      return text + fmt::format(" in the host's network, shared by ranks with {} QP{} each", pool.usnic.qps_per_rank,
                                pool.usnic.qps_per_rank == 1 ? "" : "s");
    text += ", a whole vNIC for each rank";
  }
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
