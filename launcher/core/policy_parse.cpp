#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/policy_file.hpp"
#include "launcher/core/policy_pool.hpp"

namespace berth {
namespace {

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
  images.parked = parse_paths(section, "parked");
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

OnloadPolicy parse_onload(const PolicySection& section) {
  OnloadPolicy onload;
  onload.enabled = section.flag("enabled").value_or(true);
  onload.self_test = section.flag("self_test").value_or(onload.self_test);
  for (const auto& [key, path] : {std::pair{"library", &onload.library}, std::pair{"script", &onload.script},
                                  std::pair{"profiles", &onload.profiles}}) {
    const auto value = section.string(key);
    if (!value) continue;
    const auto plain = parse_absolute_path(value->text);
    if (!plain)
      section.refuse(value->where, fmt::format("'{}' is not an absolute path without '..'", value->text),
                     "write the full path, starting with '/'");
    *path = *plain;
  }
  return onload;
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
  const PolicySection root(
      file, file.root(), "",
      {"version", "pool", "allow", "images", "mounts", "environment", "pinning", "limits", "onload", "run"});
  if (!root.has("version")) root.refuse({1, 1}, "'version' is missing", "write version = 1 at the top");
  if (root.number("version", 0, INT64_MAX) != 1) root.refuse("version", "this Berth reads version 1 only");

  Policy policy;
  policy.source = source;
  std::vector<std::string> names;
  for (const PolicySection& section : root.sections("pool", pool_keys())) {
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
  if (const auto images = root.section("images", {"paths", "kernel_mount", "parked"}))
    policy.images = parse_images(*images);
  if (const auto mounts = root.section("mounts", {"home", "working_directory", "allowed", "always", "devices"})) {
    policy.mounts = parse_mounts(*mounts);
  }
  if (const auto environment = root.section("environment", {"set", "prepend", "append", "unset"})) {
    policy.environment = parse_environment(*environment);
  }
  if (const auto pinning = root.section("pinning", {"default", "irqs"})) {
    policy.pin = pinning->choice("default", {Pin::cpus, Pin::cpus_and_memory, Pin::off}).value_or(policy.pin);
    policy.irqs = pinning->choice("irqs", {IrqSteering::off, IrqSteering::near}).value_or(policy.irqs);
  }
  if (const auto limits = root.section("limits", {"memlock"}); limits && limits->has("memlock")) {
    policy.memlock = parse_memlock(*limits);
  }
  if (const auto onload = root.section("onload", {"enabled", "library", "script", "profiles", "self_test"}))
    policy.onload = parse_onload(*onload);
  if (const auto run = root.section("run", {"outside_jobs"}))
    policy.run_outside_jobs = run->flag("outside_jobs").value_or(policy.run_outside_jobs);
  return policy;
}

}  // namespace berth
