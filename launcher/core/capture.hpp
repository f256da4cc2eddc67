// A node in a file: everything that planning reads, so that any machine can plan for it. docs/json.md has the form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "launcher/core/inventory.hpp"
#include "launcher/core/policy.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// Raised when an older reader would plan differently from the new form.
constexpr int kCaptureVersion = 1;

struct Capture {
  Inventory inventory;                ///< without topology
  std::string hwloc_xml;              ///< the whole machine with its PCI devices
  std::optional<std::string> policy;  ///< TOML text of make_shareable_policy(); empty: the node has none
  CpuSet cpus;                        ///< what ranks may use unless masks are given: what the capturing process might
  bool operator==(const Capture&) const = default;
};

/// What of an inventory may leave the site: no MAC addresses, no names of users that hold devices.
Inventory make_shareable_inventory(Inventory inventory);

/// The policy `text` with what decides a plan for `caller`: pools and pinning, and in place of the [[allow]] rules what
/// they give to this caller, whoever replays it. Comments, names of users, images, mounts and environment are not in
/// it. Throws Error{policy} as parse_policy() does.
std::string make_shareable_policy(std::string_view text, const std::string& source, const Caller& caller);

std::string to_json_text(const Capture& capture);
/// Throws Error{host}: `source` with line and column, or with the path of the value, for everything that is not a
/// capture of this version, down to the well-formedness of its XML.
Capture parse_capture(std::string_view text, const std::string& source);

}  // namespace berth
