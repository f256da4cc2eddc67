#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/policy_file.hpp"

namespace berth {
namespace {

/// What became of one device; `error` is empty where it worked.
struct Outcome {
  std::string id;
  std::string text;
  std::optional<Error> error;
};

void report(const std::vector<Outcome>& outcomes, std::string_view done, GlobalOptions& options) {
  const auto failed =
      std::count_if(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return o.error.has_value(); });
  for (const Outcome& outcome : outcomes) {
    if (outcome.error)
      fmt::print(stderr, "{}\n", outcome.error->render());
    else if (!options.json)
      fmt::print("{}  {}\n", outcome.id, outcome.text);
  }
  if (failed > 0) options.exit_code = 1;
  if (!options.json) {
    fmt::print("{} of {} devices {}\n", outcomes.size() - static_cast<std::size_t>(failed), outcomes.size(), done);
    return;
  }
  nlohmann::json devices = nlohmann::json::array();
  for (const Outcome& outcome : outcomes) {
    const std::string text =
        outcome.error ? fmt::format("{}: {}", outcome.error->what_text, outcome.error->why) : outcome.text;
    devices.push_back({{"device", outcome.id}, {"ok", !outcome.error}, {"text", text}});
  }
  print_json(nlohmann::json{{"devices", devices}}.dump(2));
}

/// Does one thing to each device, to several at once, whatever becomes of the others. `action(i)` returns the text.
template <typename Action>
void attempt_each(std::vector<Outcome>& outcomes, const Action& action) {
  run_in_parallel(outcomes.size(), [&](std::size_t i) {
    try {
      outcomes[i].text = action(i);
    } catch (const Error& error) {
      outcomes[i].error = error;
    } catch (const std::exception& error) {
      outcomes[i].error = Error(ErrorCode::internal, fmt::format("cannot change {}", outcomes[i].id), error.what());
    }
  });
}

std::vector<const Pool*> choose_pools(const Policy& policy, const std::vector<std::string>& names, bool boot) {
  std::vector<const Pool*> chosen;
  std::vector<std::string> known;
  for (const Pool& pool : policy.pools) {
    known.push_back(pool.name);
    const bool named = std::find(names.begin(), names.end(), pool.name) != names.end();
    if (names.empty() ? pool.park == Park::boot || (!boot && pool.park != Park::never) : named) chosen.push_back(&pool);
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const auto nearest = nearest_word(name, known);
    throw Error(ErrorCode::usage, fmt::format("no pool \"{}\"", name),
                fmt::format("{} does not define it", policy.source),
                nearest ? fmt::format("did you mean \"{}\"?", *nearest) : "`berth policy check` lists them");
  }
  return chosen;
}

std::string address_text(const BerthSpec& berth) {
  return berth.addresses.empty() ? std::string{} : " " + to_string(berth.addresses.front());
}

void park_pools(const std::vector<std::string>& names, bool boot, GlobalOptions& options) {
  const Policy policy = read_policy_file(options.policy_path);
  const Journal journal(options.state_directory);
  const Inventory inventory = read_node_inventory(journal, options.sysfs_root, options.node, true);
  std::vector<Outcome> outcomes;
  std::vector<Candidate> candidates;
  for (const Pool* pool : choose_pools(policy, names, boot)) {
    std::vector<Candidate> of_pool = make_candidates(*pool, inventory);
    if (of_pool.empty())
      outcomes.push_back(
          {pool->name,
           {},
           Error(ErrorCode::host, fmt::format("no device of pool \"{}\" exists on {}", pool->name, options.node),
                 "none of its parents is there, or they have no VFs", "`berth devices` lists what there is")});
    std::move(of_pool.begin(), of_pool.end(), std::back_inserter(candidates));
  }
  std::vector<Outcome> parked;
  for (const Candidate& candidate : candidates) parked.push_back({candidate.berth.id, {}, {}});
  attempt_each(parked, [&](std::size_t i) {
    const BerthSpec& berth = candidates[i].berth;
    if (!candidates[i].unusable.empty())
      throw Error(ErrorCode::host, fmt::format("cannot park '{}'", berth.id), candidates[i].unusable);
    park(journal, berth);
    return fmt::format("parked as {}{}", berth.interface, address_text(berth));
  });
  std::move(parked.begin(), parked.end(), std::back_inserter(outcomes));
  report(outcomes, "parked", options);
}

/// The parked devices that `names` mean: ids, or all of a pool.
std::vector<std::string> choose_parked(const Journal& journal, const std::vector<std::string>& names, bool all) {
  if (all == !names.empty()) {
    throw Error(ErrorCode::usage, "cannot tell what to unpark",
                all ? "--all and names were both given" : "neither a name nor --all was given",
                "name pools or devices, or say --all");
  }
  std::vector<std::string> parked = journal.ids();
  if (all) return parked;
  std::vector<std::string> chosen;
  for (const std::string& name : names) {
    const std::size_t before = chosen.size();
    for (const std::string& id : parked) {
      const auto record = journal.read(id);
      if (id == name || (record && record->berth.pool == name)) chosen.push_back(id);
    }
    if (chosen.size() > before) continue;
    throw Error(ErrorCode::usage, fmt::format("no parked device or pool '{}'", name),
                fmt::format("{} devices are parked", parked.size()), "`berth leases` lists them");
  }
  return chosen;
}

void unpark_devices(const std::vector<std::string>& names, bool all, GlobalOptions& options) {
  const Journal journal(options.state_directory);
  std::vector<Outcome> outcomes;
  for (const std::string& id : choose_parked(journal, names, all)) outcomes.push_back({id, {}, {}});
  attempt_each(outcomes, [&](std::size_t i) { return unpark(journal, outcomes[i].id); });
  report(outcomes, "brought home", options);
}

}  // namespace

void add_park_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("park", "Put devices into their network namespaces, ready to be leased (root).");
  const auto pools = std::make_shared<std::vector<std::string>>();
  const auto boot = std::make_shared<bool>(false);
  verb->add_option("POOL", *pools, "pools to park (default: all but those with park = \"never\")");
  verb->add_flag("--boot", *boot, "only pools with park = \"boot\", as the boot unit does");
  verb->footer("Parking again changes nothing. Devices that are leased stay as they are.");
  verb->callback([pools, boot, &options] { park_pools(*pools, *boot, options); });
}

void add_unpark_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("unpark", "Bring parked devices home as they were found (root).");
  const auto names = std::make_shared<std::vector<std::string>>();
  const auto all = std::make_shared<bool>(false);
  verb->add_option("POOL|ID", *names, "pools, or devices as `berth leases` names them");
  verb->add_flag("--all", *all, "every parked device");
  verb->footer("Examples:\n  berth unpark fast\n  berth unpark 0000:3b:02.1\n  berth unpark --all");
  verb->callback([names, all, &options] { unpark_devices(*names, *all, options); });
}

}  // namespace berth
