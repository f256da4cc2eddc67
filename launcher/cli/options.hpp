// Options that several verbs share, and what they lead to.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/request.hpp"

namespace berth {

/// What may be given before or after any verb.
struct GlobalOptions {
  std::string policy_path;
  std::string state_directory;
  std::string node;
  std::string sysfs_root = "/";
  bool json = false;
  bool verbose = false;
  std::vector<std::string> after_dashes;  ///< of `berth run`: what follows the first "--"
  int exit_code = 0;                      ///< set by a verb that went on after a failure and has reported it
};

void add_global_options(CLI::App& app, GlobalOptions& options);

/// Takes one option as apply_option() does: name and value.
using OptionSink = std::function<void(const std::string&, const std::string&)>;
/// Every option of option_specs() except `verbose`, handed to `sink` as it is parsed.
void add_request_options(CLI::App& verb, const OptionSink& sink);

/// The policy file, whoever owns it: for verbs that only show. nullopt if there is none at the default place.
std::optional<Policy> read_policy_to_show(const GlobalOptions& options);

/// The node as it is now: topology, sysfs and journal.
Inventory read_node(const GlobalOptions& options);

/// Writes a file that the user named, whole or not at all; "-" is standard output.
void write_output(const std::string& path, std::string_view text);

/// Prints the JSON text of a verb's answer.
void print_json(std::string_view text);

}  // namespace berth
