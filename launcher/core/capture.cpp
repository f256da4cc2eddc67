#include "launcher/core/capture.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <sstream>

#include "launcher/core/error.hpp"
#include "launcher/core/inventory_parse.hpp"
#include "launcher/core/json_reader.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/core/policy_file.hpp"
#include "launcher/core/xml_text.hpp"

namespace berth {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "berth-capture";
constexpr std::size_t kLargestCapture = std::size_t{64} << 20U;  // bytes

/// One [[allow]] rule for every pool that the caller may use: the replaying user is nobody that rules could name.
toml::array make_grants(const Policy& policy, const Caller& caller) {
  toml::array rules;
  for (const Pool& pool : policy.pools) {
    Request request;
    request.pool = pool.name;
    try {
      const PoolGrant grant = choose_pool(policy, caller, request);
      toml::table rule{{"pools", toml::array{pool.name}}};
      if (grant.max_devices) rule.insert("max_devices", static_cast<std::int64_t>(*grant.max_devices));
      rules.push_back(std::move(rule));
    } catch (const Error&) {
      continue;  // not this caller's
    }
  }
  // A rule for an account that nobody has: without any rule everybody would be allowed everything.
  if (rules.empty()) rules.push_back(toml::table{{"accounts", toml::array{"none of the capturing user"}}});
  return rules;
}

}  // namespace

Inventory make_shareable_inventory(Inventory inventory) {
  for (NetDevice& device : inventory.net_devices) device.mac = {};
  for (UsnicDevice& device : inventory.usnic_devices) device.mac = {};
  for (HeldDevice& held : inventory.held) {
    held.holder.erase(std::min(held.holder.find(" ("), held.holder.size()));
    held.uid.reset();
  }
  return inventory;
}

std::string make_shareable_policy(std::string_view text, const std::string& source, const Caller& caller) {
  const Policy policy = parse_policy(text, source);
  const PolicyFile file(text, source);
  toml::table kept;
  for (const char* key : {"version", "pinning", "pool"}) {
    if (const toml::node* node = file.root().get(key)) node->visit([&](const auto& value) { kept.insert(key, value); });
  }
  if (!policy.allow.empty()) kept.insert("allow", make_grants(policy, caller));
  std::ostringstream written;
  written << kept << '\n';
  return written.str();
}

std::string to_json_text(const Capture& capture) {
  json node = to_json_value(capture.inventory);
  node.erase("version");
  node.erase("topology");
  const json document = {{"format", kFormat},
                         {"version", kCaptureVersion},
                         {"cpus", to_string(capture.cpus)},
                         {"hwloc", capture.hwloc_xml},
                         {"node", std::move(node)},
                         {"policy", capture.policy ? json(*capture.policy) : json(nullptr)}};
  // Names of interfaces are bytes to the kernel: one that is not UTF-8 must not make the node uncapturable.
  return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Capture parse_capture(std::string_view text, const std::string& source) {
  const std::string what = fmt::format("cannot use the captured node '{}'", source);
  const json document = parse_json_file(text, source, what, kLargestCapture);
  const JsonReader reader(document, source, what);
  if (reader["format"].text() != kFormat) reader["format"].refuse(fmt::format("\"{}\"", kFormat));
  if (const auto version = reader["version"].number(UINT32_MAX); version != kCaptureVersion) {
    reader["version"].complain(fmt::format("is {}, and this program knows {} only", version, kCaptureVersion));
  }
  reader.expect_keys({"format", "version", "cpus", "hwloc", "node", "policy"});
  Capture capture;
  capture.cpus = reader["cpus"].cpus();
  capture.hwloc_xml = reader["hwloc"].text();
  const auto elements = parse_xml(capture.hwloc_xml, source + " (hwloc)", what);
  if (elements.front().name != "topology") reader["hwloc"].refuse("the XML of a topology");
  capture.inventory = parse_inventory(reader["node"]);
  if (!reader["policy"].is_null()) capture.policy = reader["policy"].text();
  return capture;
}

}  // namespace berth
