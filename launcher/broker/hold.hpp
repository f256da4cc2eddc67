// A device for a container that somebody else runs: given into the container's own network namespace by a broker of its
// own, which lives as long as the container does and brings the device home after it.
//
//   hook   -> broker   HoldRecord, with a pidfd of the container's first process and its netns
//   broker -> hook     HoldGrant, or {"error": …}; after that nothing is said any more
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/rdma_grant.hpp"
#include "launcher/core/values.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

struct HoldRecord {
  std::string container;  ///< its id
  std::string node;       ///< name of this node, which addresses are made from
  int pid = 0;            ///< of its first process
  std::string pool;       ///< empty: the first allowed one, or the first that has `device`
  std::string device;     ///< id or PCI address; empty: any
  std::string interface;  ///< name inside; empty: the pool's
  CpuSet cpus;            ///< what the container may run on
};
nlohmann::json to_json_value(const HoldRecord& record);
/// Throws nlohmann::json::exception.
HoldRecord parse_hold_record(const nlohmann::json& object);

struct HoldGrant {
  std::string device;
  std::optional<RdmaGrant> rdma;
};
nlohmann::json to_json_value(const HoldGrant& grant);
HoldGrant parse_hold_grant(const nlohmann::json& object);

/// What the broker process does for a container. Refusals go to the hook; what cannot be told to anybody any more goes
/// to syslog. Throws Error{host} only where the state directory cannot be used.
void hold_for_container(UniqueFd control, const std::string& policy_path, const std::string& state_directory);

}  // namespace berth
