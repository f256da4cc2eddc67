#include "launcher/core/capture.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "launcher/cli/node.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/xml_text.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/topology.hpp"

namespace berth {
namespace {

Capture read_capture(const GlobalOptions& options) {
  Capture capture;
  capture.inventory = make_shareable_inventory(read_node(options));
  capture.inventory.topology = {};
  capture.hwloc_xml = make_shareable_topology(read_topology_xml(), "hwloc");
  capture.cpus = read_affinity();
  const bool is_default = options.policy_path == kPolicyPath;
  if (!is_default || access(kPolicyPath, F_OK) == 0) {
    capture.policy =
        make_shareable_policy(read_policy_text(options.policy_path, is_default), options.policy_path, read_caller());
  }
  return capture;
}

void capture_node(const std::string& path, const GlobalOptions& options) {
  const Capture capture = read_capture(options);
  write_output(path, to_json_text(capture));
  if (path == "-") return;
  fmt::print("{}: node {}, {} network interfaces, {} VFs, {}\n", path, capture.inventory.host,
             capture.inventory.net_devices.size(), capture.inventory.virtual_functions.size(),
             capture.policy ? "policy" : "no policy");
}

}  // namespace

void add_capture_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("capture", "Write what planning reads of this node to a file.");
  const auto path = std::make_shared<std::string>();
  verb->add_option("FILE", *path, "file to write, or - for standard output")->required();
  verb->footer(
      "Examples:\n"
      "  berth capture n1.json              on the node\n"
      "  berth plan --node n1.json -n 8     on any machine: the same plan\n"
      "The file holds the topology, network devices, who holds which device (job ids only), and of the policy what it\n"
      "gives to you. It holds no user names, MAC addresses, serial numbers, images, mounts or environment.");
  verb->callback([path, &options] { capture_node(*path, options); });
}

}  // namespace berth
