// What a user asks for: the same record whether it came by SPANK option, environment variable or `berth run` flag.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// Which network namespace a rank runs in.
enum class NetScope { rank, node, host };
/// How far a rank is pinned: not at all, to CPUs, or to CPUs and the memory of their NUMA nodes.
enum class Pin { off, cpus, cpus_and_memory };

std::string_view to_string(NetScope scope);  ///< "rank" | "node" | "host"
std::string_view to_string(Pin pin);         ///< "off" | "cpus" | "cpus+mem"
std::optional<Pin> parse_pin(std::string_view text);

/// A directory or file of the host that appears in the container.
struct MountRequest {
  std::string source;
  std::string target;  ///< absolute, inside the container
  bool read_only = false;
  bool operator==(const MountRequest&) const = default;
};

/// "SRC[:DST][:ro|rw]"; without DST the target is SRC. Both become plain absolute paths. Throws Error{usage} on
/// relative paths, "..", a target that Berth builds itself (/, /dev, /proc, /sys) and sources in /proc.
MountRequest parse_mount(std::string_view text);

/// A name that every shell can set: letters, digits and '_', not starting with a digit.
bool is_environment_name(std::string_view name);

/// A name for pools and for profiles of Onload: 1..64 letters, digits, '.', '_' and '-', starting with a letter or
/// digit.
bool is_pool_name(std::string_view name);

/// One change to the environment; `value` may hold ${NAME} of the host's environment only in policy rules.
struct EnvironmentChange {
  enum class Action { set, prepend, append, unset };  ///< prepend and append join with ':'
  Action action = Action::set;
  std::string name;
  std::string value;
  bool operator==(const EnvironmentChange&) const = default;
};

/// The image of a request that wants devices, CPUs and network namespace only.
constexpr std::string_view kNoImage = "none";

/// The one word of Request::gpus that is no GPU.
constexpr std::string_view kNearestGpus = "nearest";

/// Most devices that a rank can have: more than any node has ports.
constexpr unsigned kMostDevicesPerRank = 32;

struct Request {
  std::string image;  ///< path, or kNoImage; empty: Berth was not asked for
  std::string pool;   ///< empty: the first pool that the policy allows to this user
  std::vector<MountRequest> mounts;
  std::vector<EnvironmentChange> environment;
  std::string working_directory;  ///< absolute, inside the container; empty: the job's own
  std::optional<Pin> pin;         ///< empty: the policy's default
  NetScope net = NetScope::rank;
  unsigned devices = 1;  ///< of each rank, of different cards where there are any
  /// GPUs that the ranks compute on, in turn: numbers in PCI order or PCI addresses; or "nearest" alone; empty: none.
  std::vector<std::string> gpus;
  bool share = false;         ///< ranks may share a device where there are fewer devices than ranks
  unsigned wait_seconds = 0;  ///< how long to wait for a device that another job holds
  /// Profiles of OpenOnload, under which the ranks run; may be none. nullopt: they run without it.
  std::optional<std::vector<std::string>> onload;
  bool verbose = false;
  std::optional<std::string>
      stats;  ///< what ranks sent and received, at the end: "" says it, else it goes to this file
  bool operator==(const Request&) const = default;
};

/// One user-visible option: `--rdma-NAME` of srun, `--NAME` of `berth run`, and the variable BERTH_NAME.
struct OptionSpec {
  std::string_view name;      ///< "container", "pool", …
  std::string_view argument;  ///< placeholder for the help text; "" for a flag
  std::string_view help;
  bool argument_is_optional = false;  ///< "--rdma-NAME" alone is a flag
};
/// All options in the order of the help text.
const std::vector<OptionSpec>& option_specs();

/// The variable that stands for an option: "BERTH_POOL".
std::string option_variable(std::string_view name);

/// Applies one option to `request`; a flag (and an option whose argument is optional) takes "" or "1" (and "0" to turn
/// it off). Throws Error{usage} naming the option, the value and the accepted forms, and then leaves `request` as it
/// was. Applying the same option again replaces its value, except `mount` and `env`, which take lists and add to what
/// is there ("SRC[:DST][:ro|rw][,…]", "NAME=VALUE[,…]", "-NAME" unsets); a later mount on the same target wins. In
/// lists, "\," is a comma, "\:" a colon (mount only) and "\\" a backslash; other backslashes stand for themselves.
void apply_option(Request& request, std::string_view name, std::string_view value);

}  // namespace berth
