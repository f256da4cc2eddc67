#include "launcher/cli/options.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "launcher/broker/node_inventory.hpp"
#include "launcher/core/error.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/host_name.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/topology.hpp"

namespace berth {
void add_global_options(CLI::App& app, GlobalOptions& options) {
  options.policy_path = kPolicyPath;
  options.state_directory = kStateDirectory;
  options.node = read_host_name();
  constexpr const char* kGroup = "Options of every command";
  app.add_option("--policy", options.policy_path, "policy file")
      ->type_name("FILE")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--state", options.state_directory, "directory of leases and parked devices")
      ->type_name("DIR")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--node-name", options.node, "name of this node, which addresses are made from")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--sysfs", options.sysfs_root, "directory that holds the sys/ to read")
      ->type_name("ROOT")
      ->capture_default_str()
      ->group(kGroup);
  app.add_flag("--json", options.json, "answer in JSON (docs/json.md)")->group(kGroup);
  app.add_flag("-v,--verbose", options.verbose, "say more, and why")->group(kGroup);
}

std::optional<Policy> read_policy_to_show(const GlobalOptions& options) {
  const bool is_default = options.policy_path == kPolicyPath;
  if (is_default && access(kPolicyPath, F_OK) != 0) return std::nullopt;
  return read_policy_file(options.policy_path, is_default);
}

Inventory read_node(const GlobalOptions& options) {
  const Journal journal(options.state_directory, Journal::Use::look);
  // Only root can look at locks; others see a lease whose holder was killed as held until somebody repairs it.
  Inventory inventory = read_node_inventory(journal, options.sysfs_root, options.node, geteuid() == 0);
  inventory.topology = read_topology();
  return inventory;
}

void write_output(const std::string& path, std::string_view text) {
  constexpr unsigned kMode = 0644;
  if (path == "-") return fmt::print("{}", text);
  write_file_atomically(path, text, kMode);
}

void print_json(std::string_view text) { fmt::print("{}\n", text); }

}  // namespace berth
