#include "launcher/core/request.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/core/stats_file.hpp"
#include "launcher/core/values.hpp"

namespace berth {
namespace {

constexpr std::size_t kLongestValue = 65536;  // bytes of one option; more is a mistake or an attack
constexpr std::size_t kMostMounts = 256;      // every mount costs every rank time
constexpr unsigned kLongestWait = 24 * 3600;  // seconds

[[noreturn]] void refuse(std::string_view option, std::string_view value, std::string why, std::string fix) {
  constexpr std::size_t kShown = 200;
  std::string shown(value.substr(0, kShown));
  if (value.size() > kShown) shown += "…";
  throw Error(ErrorCode::usage, fmt::format("cannot use '--rdma-{}={}'", option, shown), std::move(why),
              std::move(fix));
}

/// Splits at every `separator` that has no backslash before it; escapes stay in the parts.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  for (std::size_t index = 0; index < text.size(); ++index) {
    if (text[index] == '\\') {
      ++index;
    } else if (text[index] == separator) {
      parts.push_back(text.substr(begin, index - begin));
      begin = index + 1;
    }
  }
  parts.push_back(text.substr(begin));
  return parts;
}

/// Takes the backslash away from each of `escapable`.
std::string unescape(std::string_view text, std::string_view escapable) {
  std::string plain;
  for (std::size_t index = 0; index < text.size(); ++index) {
    const bool escape =
        text[index] == '\\' && index + 1 < text.size() && escapable.find(text[index + 1]) != std::string_view::npos;
    if (escape) ++index;
    plain += text[index];
  }
  return plain;
}

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

std::string parse_mount_path(std::string_view text, std::string_view role) {
  const std::string plain = unescape(text, ",:\\");
  if (plain.empty()) {
    throw Error(ErrorCode::usage, "cannot use a mount without a path", fmt::format("the {} is empty", role),
                "write SRC[:DST][:ro|rw]");
  }
  auto path = parse_absolute_path(plain);
  if (!path) {
    throw Error(ErrorCode::usage, fmt::format("cannot use the mount {} '{}'", role, plain),
                "it must be an absolute path without '..'", "write the full path, for example $PWD/data:/data");
  }
  return std::move(*path);
}

void apply_mounts(Request& request, std::string_view value) {
  std::vector<MountRequest> mounts = request.mounts;
  for (const std::string_view part : split(value, ',')) {
    try {
      MountRequest mount = parse_mount(part);
      std::erase_if(mounts, [&](const MountRequest& earlier) { return earlier.target == mount.target; });
      mounts.push_back(std::move(mount));
    } catch (const Error& error) {
      refuse("mount", value, fmt::format("{}: {}", error.what_text, error.why), error.fix);
    }
    if (mounts.size() > kMostMounts) {
      refuse("mount", value, fmt::format("more than {} mounts", kMostMounts), "mount a directory above them");
    }
  }
  request.mounts = std::move(mounts);
}

void apply_environment(Request& request, std::string_view value) {
  std::vector<EnvironmentChange> changes = request.environment;
  for (const std::string_view part : split(value, ',')) {
    const std::string change = unescape(part, ",\\");
    const std::size_t equals = change.find('=');
    const bool unset = equals == std::string::npos && change.starts_with('-');
    const std::string name = unset ? change.substr(1) : change.substr(0, equals);
    if (!unset && equals == std::string::npos) {
      refuse("env", value, fmt::format("'{}' has no '='", change),
             "write NAME=VALUE, or -NAME to unset it; the job's own variables are passed on anyway, and a comma in "
             "a value is written \\,");
    }
    if (!is_environment_name(name)) {
      refuse("env", value, fmt::format("'{}' is not the name of a variable", name),
             "use letters, digits and '_', not starting with a digit");
    }
    std::erase_if(changes, [&](const EnvironmentChange& earlier) { return earlier.name == name; });
    if (unset) {
      changes.push_back({EnvironmentChange::Action::unset, name, ""});
    } else {
      changes.push_back({EnvironmentChange::Action::set, name, change.substr(equals + 1)});
    }
  }
  request.environment = std::move(changes);
}

bool parse_flag(std::string_view name, std::string_view value) {
  if (value.empty() || value == "1") return true;
  if (value == "0") return false;
  refuse(name, value, "it is a flag", fmt::format("write --rdma-{}, or 1 or 0", name));
}

unsigned parse_seconds(std::string_view name, std::string_view value) {
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc{} || end != value.data() + value.size() || seconds > kLongestWait) {
    refuse(name, value, fmt::format("it must be a whole number of seconds from 0 to {}", kLongestWait),
           "for example --rdma-wait=60");
  }
  return seconds;
}

unsigned parse_devices(std::string_view value) {
  unsigned devices = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), devices);
  if (error != std::errc{} || end != value.data() + value.size() || devices < 1 || devices > kMostDevicesPerRank) {
    refuse("devices", value, fmt::format("it must be a whole number from 1 to {}", kMostDevicesPerRank),
           "for example --rdma-devices=2");
  }
  return devices;
}

std::vector<std::string> parse_gpus(std::string_view value) {
  if (value == kNearestGpus) return {std::string(kNearestGpus)};
  std::vector<std::string> gpus;
  for (const std::string_view gpu : split(value, ',')) {
    const bool is_number = !gpu.empty() && gpu.size() <= 4 && gpu.find_first_not_of("0123456789") == gpu.npos;
    if (!is_number && !parse_pci_address(gpu))
      refuse("gpus", value, fmt::format("'{}' is neither a number nor a PCI address", gpu),
             "write --rdma-gpus=nearest, --rdma-gpus=0,1,2,3 or --rdma-gpus=0000:07:00.0,…");
    gpus.emplace_back(gpu);
  }
  return gpus;
}

/// nullopt: "0", which turns off what the enclosing job or a variable asked for.
std::optional<std::vector<std::string>> parse_onload(std::string_view value) {
  if (value == "0") return std::nullopt;
  std::vector<std::string> profiles;
  if (value.empty() || value == "1") return profiles;
  for (const std::string_view profile : split(value, ',')) {
    // They become names of files.
    if (!is_pool_name(profile))
      refuse("onload", value, fmt::format("'{}' is not the name of a profile", profile),
             "for example --rdma-onload=latency, or --rdma-onload alone");
    profiles.emplace_back(profile);
  }
  return profiles;
}

NetScope parse_net(std::string_view value) {
  for (const NetScope scope : {NetScope::rank, NetScope::node, NetScope::host}) {
    if (value == to_string(scope)) return scope;
  }
  refuse("net", value, "the accepted values are rank, node and host",
         "rank: a network namespace per rank; node: one for all ranks of a node; host: the host's own");
}

std::optional<std::string> parse_stats(std::string_view value) {
  if (value == "0") return std::nullopt;
  if (value.empty() || value == "1") return "";
  if (const std::string why = find_pattern_error(value); !why.empty())
    refuse("stats", value, why, "%N stands for the node, %j for the job, %s for the step, %% for %");
  return std::string(value);
}

}  // namespace

std::string_view to_string(NetScope scope) {
  switch (scope) {
    case NetScope::rank:
      return "rank";
    case NetScope::node:
      return "node";
    case NetScope::host:
      return "host";
  }
  return "rank";
}

std::string_view to_string(Pin pin) {
  switch (pin) {
    case Pin::off:
      return "off";
    case Pin::cpus:
      return "cpus";
    case Pin::cpus_and_memory:
      return "cpus+mem";
  }
  return "cpus";
}

std::optional<Pin> parse_pin(std::string_view text) {
  for (const Pin pin : {Pin::off, Pin::cpus, Pin::cpus_and_memory}) {
    if (text == to_string(pin)) return pin;
  }
  return std::nullopt;
}

bool is_environment_name(std::string_view name) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return c == '_' || is_letter_or_digit(c); });
}

bool is_pool_name(std::string_view name) {
  constexpr std::size_t kLongest = 64;
  if (name.empty() || name.size() > kLongest || !is_letter_or_digit(name.front())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return c == '.' || c == '_' || c == '-' || is_letter_or_digit(c); });
}

MountRequest parse_mount(std::string_view text) {
  std::vector<std::string_view> parts = split(text, ':');
  MountRequest mount;
  // A target starts with a slash, so a bare "ro" or "rw" at the end can only be the mode.
  if (parts.size() > 1 && (parts.back() == "ro" || parts.back() == "rw")) {
    mount.read_only = parts.back() == "ro";
    parts.pop_back();
  }
  if (parts.size() > 2) {
    throw Error(ErrorCode::usage, fmt::format("cannot use the mount '{}'", text),
                fmt::format("'{}' is neither ro nor rw", parts[2]),
                "write SRC[:DST][:ro|rw]; a colon in a path is \\:");
  }
  mount.source = parse_mount_path(parts.front(), "source");
  mount.target = parse_mount_path(parts.back(), "target");
  if (is_within(mount.source, "/proc")) {
    throw Error(ErrorCode::usage, fmt::format("cannot mount '{}'", mount.source),
                "a path in /proc names another thing for every process", "name the directory itself");
  }
  const bool built_by_berth = mount.target == "/" || mount.target == "/dev" || is_within(mount.target, "/proc") ||
                              is_within(mount.target, "/sys");
  if (built_by_berth) {
    throw Error(ErrorCode::usage, fmt::format("cannot mount on '{}'", mount.target),
                "Berth makes it afresh for every rank", "choose another target");
  }
  return mount;
}

std::string option_variable(std::string_view name) {
  std::string variable = fmt::format("BERTH_{}", name);
  std::ranges::transform(variable, variable.begin(),
                         [](unsigned char c) { return static_cast<char>(c == '-' ? '_' : std::toupper(c)); });
  return variable;
}

const std::vector<OptionSpec>& option_specs() {
  static const std::vector<OptionSpec> specs = {
      {"container", "IMAGE",
       "run the ranks in this image (squashfs, SIF, OCI or directory); none: devices and CPUs only"},
      {"pool", "NAME", "take the devices from this pool (default: the first one that you may use)"},
      {"mount", "SRC[:DST][:ro|rw],…", "mount these directories or files of the host in the container"},
      {"env", "NAME=VALUE,…", "set these variables for the ranks; -NAME unsets one"},
      {"workdir", "DIR", "start the ranks in this directory of the container (default: the job's own)"},
      {"pin", "off|cpus|cpus+mem", "bind each rank to CPUs, or CPUs and memory, next to its device"},
      {"net", "rank|node|host", "one network namespace per rank (default), one per node, or the host's own"},
      {"devices", "N", "give each rank this many devices, on different cards where possible (default: 1)"},
      {"gpus", "nearest|GPU,…",
       "choose devices near the ranks' GPUs: in turn these (number in PCI order, or PCI address), or each rank's "
       "nearest"},
      {"onload", "PROFILE,…", "run the ranks under the host's OpenOnload, with the settings of these profiles", true},
      {"share", "", "let ranks share a device where there are fewer devices than ranks"},
      {"wait", "SECONDS", "wait this long for devices that other jobs hold (default: 0)"},
      {"stats", "FILE",
       "say at the end what each rank sent and received; or write it as JSON to FILE (%N: node, %j: job, %s: step)",
       true},
      {"verbose", "", "say what each rank gets, and why"},
  };
  return specs;
}

void apply_option(Request& request, std::string_view name, std::string_view value) {
  const auto& specs = option_specs();
  const auto spec =
      std::find_if(specs.begin(), specs.end(), [&](const OptionSpec& known) { return known.name == name; });
  if (spec == specs.end()) {
    std::vector<std::string> names;
    names.reserve(specs.size());
    for (const OptionSpec& known : specs) names.emplace_back(known.name);
    const auto nearest = nearest_word(name, names);
    throw Error(ErrorCode::usage, fmt::format("cannot use '--rdma-{}'", name.substr(0, 64)), "there is no such option",
                nearest ? fmt::format("did you mean --rdma-{}?", *nearest) : "--help lists the options");
  }
  if (value.size() > kLongestValue)
    refuse(name, value, fmt::format("it is over {} bytes", kLongestValue), "shorten it");
  if (value.find('\0') != std::string_view::npos) refuse(name, value, "it contains a NUL byte", "remove it");
  // No image turns off what the enclosing sbatch or salloc asked for.
  if (value.empty() && !spec->argument.empty() && !spec->argument_is_optional && name != "container") {
    refuse(name, value, "its value is empty", fmt::format("write --rdma-{}={}", name, spec->argument));
  }

  if (name == "container") {
    request.image = value;
  } else if (name == "pool") {
    if (!is_pool_name(value))
      refuse(name, value, "it is not the name of a pool", "use the name that the policy gives it");
    request.pool = value;
  } else if (name == "mount") {
    apply_mounts(request, value);
  } else if (name == "env") {
    apply_environment(request, value);
  } else if (name == "workdir") {
    if (value.front() != '/') {
      refuse(name, value, "it must be an absolute path in the container", "for example --rdma-workdir=/work");
    }
    request.working_directory = value;
  } else if (name == "pin") {
    const auto pin = parse_pin(value);
    if (!pin) refuse(name, value, "the accepted values are off, cpus and cpus+mem", "for example --rdma-pin=cpus+mem");
    request.pin = pin;
  } else if (name == "net") {
    request.net = parse_net(value);
  } else if (name == "devices") {
    request.devices = parse_devices(value);
  } else if (name == "gpus") {
    request.gpus = parse_gpus(value);
  } else if (name == "onload") {
    request.onload = parse_onload(value);
  } else if (name == "share") {
    request.share = parse_flag(name, value);
  } else if (name == "wait") {
    request.wait_seconds = parse_seconds(name, value);
  } else if (name == "stats") {
    request.stats = parse_stats(value);
  } else if (name == "verbose") {
    request.verbose = parse_flag(name, value);
  }
}

}  // namespace berth
