#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/image/parked_images.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {
namespace {

/// What became of one device or image; `error` is empty where it worked.
struct Outcome {
  std::string id;
  std::string text;
  std::optional<Error> error;
};

nlohmann::json to_json_value(const std::vector<Outcome>& outcomes, const char* noun) {
  nlohmann::json list = nlohmann::json::array();
  for (const Outcome& outcome : outcomes) {
    const std::string text =
        outcome.error ? fmt::format("{}: {}", outcome.error->what_text, outcome.error->why) : outcome.text;
    list.push_back({{noun, outcome.id}, {"ok", !outcome.error}, {"text", text}});
  }
  return list;
}

void print_lines(const std::vector<Outcome>& outcomes, std::string_view nouns, std::string_view done) {
  std::size_t failed = 0;
  for (const Outcome& outcome : outcomes) {
    if (outcome.error)
      ++failed;
    else
      fmt::print("{}  {}\n", outcome.id, outcome.text);
  }
  fmt::print("{} of {} {} {}\n", outcomes.size() - failed, outcomes.size(), nouns, done);
}

void report(const std::vector<Outcome>& devices, const std::vector<Outcome>& images, bool parked,
            GlobalOptions& options) {
  for (const auto* outcomes : {&devices, &images})
    for (const Outcome& outcome : *outcomes)
      if (outcome.error) {
        fmt::print(stderr, "{}\n", outcome.error->render());
        options.exit_code = 1;
      }
  if (options.json)
    return print_json(
        nlohmann::json{{"devices", to_json_value(devices, "device")}, {"images", to_json_value(images, "image")}}.dump(
            2));
  if (!devices.empty() || images.empty()) print_lines(devices, "devices", parked ? "parked" : "brought home");
  if (!images.empty()) print_lines(images, "images", parked ? "parked" : "unmounted");
}

/// `action` returns the text.
template <typename Action>
void attempt(Outcome& outcome, const Action& action) {
  try {
    outcome.text = action();
  } catch (const Error& error) {
    outcome.error = error;
  } catch (const std::exception& error) {
    outcome.error = Error(ErrorCode::internal, fmt::format("cannot change {}", outcome.id), error.what());
  }
}

/// Does one thing to each device, to several at once, whatever becomes of the others. `action(i)` returns the text.
template <typename Action>
void attempt_each(std::vector<Outcome>& outcomes, const Action& action) {
  run_in_parallel(outcomes.size(), [&](std::size_t i) { attempt(outcomes[i], [&] { return action(i); }); });
}

/// Images are named by their paths, and no pool or device is.
bool is_image(const std::string& name) { return name.starts_with('/'); }

std::vector<const Pool*> choose_pools(const Policy& policy, const std::vector<std::string>& names, bool boot) {
  std::vector<const Pool*> chosen;
  std::vector<std::string> known;
  for (const Pool& pool : policy.pools) {
    known.push_back(pool.name);
    const bool named = std::find(names.begin(), names.end(), pool.name) != names.end();
    if (names.empty() ? pool.park == Park::boot || (!boot && pool.park != Park::never) : named) chosen.push_back(&pool);
  }
  for (const std::string& name : names) {
    if (is_image(name) || std::find(known.begin(), known.end(), name) != known.end()) continue;
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

std::vector<Outcome> park_devices(const Policy& policy, const std::vector<std::string>& names, bool boot,
                                  const GlobalOptions& options) {
  const std::vector<const Pool*> pools = choose_pools(policy, names, boot);
  if (pools.empty()) return {};
  const Journal journal(options.state_directory);
  const Inventory inventory = read_node_inventory(journal, options.sysfs_root, options.node, true);
  std::vector<Outcome> outcomes;
  std::vector<Candidate> candidates;
  for (const Pool* pool : pools) {
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
  return outcomes;
}

void check_listed(const Policy& policy, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (is_image(name) && std::ranges::find(policy.images.parked, name) == policy.images.parked.end())
      throw Error(ErrorCode::usage, fmt::format("cannot park image '{}'", name),
                  fmt::format("`parked` in [images] of {} does not list it", policy.source), "add it there");
}

/// Those that the policy lists, or of them those that are named. What these files held before is unmounted, and so is
/// what is not listed, if nothing is named.
std::vector<Outcome> park_images(const Policy& policy, const std::vector<std::string>& names,
                                 const std::string& state_directory) {
  std::vector<Outcome> outcomes;
  std::set<std::string> keys;
  std::set<std::string> paths;  // without links, which may lead to another image now
  for (const std::string& path : policy.images.parked) {
    if (!names.empty() && std::ranges::find(names, path) == names.end()) continue;
    attempt(outcomes.emplace_back(Outcome{path, {}, {}}), [&] {
      const OpenImage image = open_image(path, "/", read_credentials(), policy.images);
      const bool is_new = park_image(state_directory, image);
      keys.insert(parking_key(image));
      paths.insert(image.path);
      return is_new ? "mounted" : "mounted already";
    });
  }
  for (const ParkedImage& image : read_parked_images(state_directory)) {
    if (keys.contains(image.key) || (!names.empty() && !paths.contains(image.path))) continue;
    Outcome former{image.path, {}, {}};
    attempt(former, [&] {
      unpark_image(state_directory, image);
      return "unmounted";
    });
    if (former.error) outcomes.push_back(std::move(former));
  }
  return outcomes;
}

void park_all(const std::vector<std::string>& names, bool boot, GlobalOptions& options) {
  const Policy policy = read_policy_file(options.policy_path);
  check_listed(policy, names);
  const std::vector<Outcome> devices = park_devices(policy, names, boot, options);
  report(devices, park_images(policy, names, options.state_directory), true, options);
}

/// The parked devices that `names` mean: ids, or all of a pool.
std::vector<std::string> choose_parked(const Journal& journal, const std::vector<std::string>& names, bool all) {
  if (all == !names.empty()) {
    throw Error(ErrorCode::usage, "cannot tell what to unpark",
                all ? "--all and names were both given" : "neither a name nor --all was given",
                "name pools, devices or images, or say --all");
  }
  std::vector<std::string> parked = journal.ids();
  if (all) return parked;
  std::vector<std::string> chosen;
  for (const std::string& name : names) {
    if (is_image(name)) continue;
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

/// By the path of the file, or of a link to it.
std::vector<ParkedImage> choose_parked_images(const std::string& state_directory, const std::vector<std::string>& names,
                                              bool all) {
  const std::vector<ParkedImage> parked = read_parked_images(state_directory);
  if (all) return parked;
  std::vector<ParkedImage> chosen;
  for (const std::string& name : names) {
    if (!is_image(name)) continue;
    std::error_code error;
    const std::string real = std::filesystem::weakly_canonical(name, error);
    const std::size_t before = chosen.size();
    for (const ParkedImage& image : parked)
      if (image.path == name || image.path == real) chosen.push_back(image);
    if (chosen.size() == before)
      throw Error(ErrorCode::usage, fmt::format("no parked image '{}'", name),
                  fmt::format("{} images are parked", parked.size()), "`berth leases` lists them");
  }
  return chosen;
}

void unpark_all(const std::vector<std::string>& names, bool all, GlobalOptions& options) {
  const Journal journal(options.state_directory);
  std::vector<Outcome> devices;
  for (const std::string& id : choose_parked(journal, names, all)) devices.push_back({id, {}, {}});
  std::vector<Outcome> images;
  const std::vector<ParkedImage> chosen = choose_parked_images(options.state_directory, names, all);
  attempt_each(devices, [&](std::size_t i) { return unpark(journal, devices[i].id); });
  for (const ParkedImage& image : chosen)
    attempt(images.emplace_back(Outcome{image.path, {}, {}}), [&] {
      unpark_image(options.state_directory, image);
      return "unmounted";
    });
  report(devices, images, false, options);
}

}  // namespace

void add_park_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand(
      "park", "Put devices into their network namespaces, ready to be leased, and mount images (root).");
  const auto names = std::make_shared<std::vector<std::string>>();
  const auto boot = std::make_shared<bool>(false);
  verb->add_option("POOL|IMAGE", *names,
                   "pools, or images that `parked` in [images] of the policy lists (default: all of them, but not the "
                   "pools with park = \"never\")");
  verb->add_flag("--boot", *boot, "only pools with park = \"boot\", and the images, as the boot unit does");
  verb->footer(
      "Parking again changes nothing, but mounts images anew whose files have changed. Devices that are leased stay "
      "as\n"
      "they are, and runs keep the image that they began with.\n"
      "Examples:\n  berth park\n  berth park fast\n  berth park /opt/images/app.sqsh");
  verb->callback([names, boot, &options] { park_all(*names, *boot, options); });
}

void add_unpark_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb =
      app.add_subcommand("unpark", "Bring parked devices home as they were found, and unmount images (root).");
  const auto names = std::make_shared<std::vector<std::string>>();
  const auto all = std::make_shared<bool>(false);
  verb->add_option("POOL|ID|IMAGE", *names, "pools, or devices and images as `berth leases` names them");
  verb->add_flag("--all", *all, "every parked device and image");
  verb->footer(
      "Examples:\n  berth unpark fast\n  berth unpark 0000:3b:02.1\n  berth unpark /opt/images/app.sqsh\n  berth "
      "unpark "
      "--all");
  verb->callback([names, all, &options] { unpark_all(*names, *all, options); });
}

}  // namespace berth
