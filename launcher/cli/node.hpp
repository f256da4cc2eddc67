// The node that a verb shows: this machine, or one that `berth capture` wrote to a file.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/cli/options.hpp"
#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/values.hpp"

namespace berth {

struct ShownNode {
  Inventory inventory;
  std::vector<PciFunction> functions;  ///< its PCI tree, if asked for
  CpuSet cpus;                         ///< what ranks may use unless told otherwise
  std::optional<Policy> policy;        ///< empty: the node has none, and none was named
  Caller caller;                       ///< on a captured node: nobody in particular, its policy knows what was allowed
};

/// Adds --node FILE to a verb. `path` stays empty without it.
void add_node_option(CLI::App& app, CLI::App& verb, std::string& path);

/// `captured_path` empty: this machine, as `options` says. Else that file, or standard input ("-"); a policy that
/// `options` names takes the place of the captured one. Throws Error.
ShownNode read_shown_node(const std::string& captured_path, const GlobalOptions& options, bool with_pci = false);

/// The policy of `node`. Throws Error{policy} if there is none.
const Policy& require_policy(const ShownNode& node, const std::string& captured_path);

/// The user as the kernel knows it; the account only where Slurm runs this, and only to show: nothing is granted here.
Caller read_caller();

}  // namespace berth
