#include "launcher/cli/node.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "launcher/core/capture.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/privileges.hpp"
#include "launcher/system/topology.hpp"
#include "launcher/system/user_database.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestFile = std::size_t{64} << 20U;  // bytes

std::string read_capture_text(const std::string& path) {
  try {
    return read_file(AT_FDCWD, path == "-" ? "/dev/stdin" : path, kLargestFile);
  } catch (Error& error) {
    error.what_text = fmt::format("cannot use the captured node '{}'", path);
    error.fix = "make it with `berth capture FILE` on the node; the name of this node is said by --node-name";
    throw;
  }
}

ShownNode read_captured_node(const std::string& path, const GlobalOptions& options) {
  const std::string source = path == "-" ? "standard input" : path;
  Capture capture = parse_capture(read_capture_text(path), source);
  ShownNode node;
  node.inventory = std::move(capture.inventory);
  node.inventory.topology = parse_topology_xml(capture.hwloc_xml, source + " (hwloc)");
  node.functions = parse_hwloc_xml(capture.hwloc_xml, source + " (hwloc)").functions;
  node.cpus = capture.cpus;
  node.caller.user = "the capturing user";
  if (options.policy_path != kPolicyPath) {
    node.policy = read_policy_file(options.policy_path, false);
  } else if (capture.policy) {
    node.policy = parse_policy(*capture.policy, source + " (policy)");
  }
  return node;
}

}  // namespace

void add_node_option(CLI::App& app, CLI::App& verb, std::string& path) {
  CLI::Option* node = verb.add_option("--node", path, "file of `berth capture` to show, instead of this machine");
  node->type_name("FILE");
  for (const char* live : {"--node-name", "--state", "--sysfs"}) node->excludes(app.get_option(live));
}

ShownNode read_shown_node(const std::string& captured_path, const GlobalOptions& options, bool with_pci) {
  if (!captured_path.empty()) return read_captured_node(captured_path, options);
  auto functions = with_pci ? parse_hwloc_xml(read_topology_xml(), "hwloc").functions : std::vector<PciFunction>{};
  return {read_node(options), std::move(functions), read_affinity(), read_policy_to_show(options), read_caller()};
}

const Policy& require_policy(const ShownNode& node, const std::string& captured_path) {
  if (node.policy) return *node.policy;
  if (captured_path.empty()) {
    throw Error(ErrorCode::policy, fmt::format("no policy file '{}'", kPolicyPath),
                "without one Berth allows nothing that needs privileges",
                "as root, write one: start from examples/policy.toml; or name another with --policy");
  }
  throw Error(ErrorCode::policy, "no policy to plan by",
              fmt::format("the node had none when '{}' was captured", captured_path), "name one with --policy");
}

Caller read_caller() {
  const Credentials self = read_credentials();
  const char* account = std::getenv("SLURM_JOB_ACCOUNT");
  return {self.uid, self.gid, read_user(self.uid).name, read_group_names(all_groups(self)),
          account == nullptr ? "" : account};
}

}  // namespace berth
