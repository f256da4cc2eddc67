#include "launcher/core/gres.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/policy_file.hpp"

namespace berth {
namespace {

struct PoolGres {
  const Pool* pool;
  std::vector<GresLine> lines;
  std::size_t count = 0;
};

std::vector<PoolGres> read_gres(const Policy& policy, const Inventory& inventory) {
  std::vector<PoolGres> resources;
  for (const Pool& pool : policy.pools) {
    if (pool.gres.empty()) continue;
    PoolGres& resource = resources.emplace_back(PoolGres{&pool, make_gres_lines(pool, inventory)});
    for (const GresLine& line : resource.lines) resource.count += line.files.size();
  }
  if (!resources.empty()) return resources;
  throw Error(ErrorCode::policy, "no pool is counted by Slurm", policy.source + " has no pool with the key `gres`",
              "give a pool a name of a generic resource: gres = \"vf\"");
}

void print_as_json(const std::vector<PoolGres>& resources, const std::string& node) {
  nlohmann::json list = nlohmann::json::array();
  for (const PoolGres& resource : resources) {
    nlohmann::json lines = nlohmann::json::array();
    for (const GresLine& line : resource.lines)
      lines.push_back({{"files", line.files}, {"cores", to_string(line.cores)}, {"text", to_string(line)}});
    list.push_back(
        {{"name", resource.pool->gres}, {"pool", resource.pool->name}, {"count", resource.count}, {"lines", lines}});
  }
  print_json(nlohmann::json{{"node", node}, {"gres", list}}.dump(2));
}

void show_gres(const GlobalOptions& options) {
  const std::optional<Policy> policy = read_policy_to_show(options);
  if (!policy)
    throw Error(ErrorCode::policy, "no pool is counted by Slurm", "there is no policy file " + options.policy_path,
                "docs/policy.md has an example to start from");
  const Inventory inventory = read_node(options);
  const std::vector<PoolGres> resources = read_gres(*policy, inventory);
  if (options.json) return print_as_json(resources, options.node);
  std::vector<std::string> types;
  std::vector<std::string> counts;
  for (const PoolGres& resource : resources) {
    types.push_back(resource.pool->gres);
    counts.push_back(fmt::format("{}:{}", resource.pool->gres, resource.count));
  }
  fmt::print("# slurm.conf\nGresTypes={}\nNodeName={} Gres={} # and what this line says already\n\n# gres.conf\n",
             fmt::join(types, ","), options.node, fmt::join(counts, ","));
  for (const PoolGres& resource : resources) {
    for (const GresLine& line : resource.lines) fmt::print("NodeName={} {}\n", options.node, to_string(line));
    if (resource.lines.empty()) fmt::print("# pool \"{}\" has no device on this node\n", resource.pool->name);
  }
}

}  // namespace

void add_gres_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb =
      app.add_subcommand("gres", "Print the lines of slurm.conf and gres.conf that let Slurm count devices.");
  verb->footer(
      "Example:\n"
      "  berth gres        for pools with the key `gres`; docs/slurm.md has the rest of the configuration\n"
      "The order of the lines and files is the order of Slurm's numbers: keep it.");
  verb->callback([&options] { show_gres(options); });
}

}  // namespace berth
