// What an OCI runtime tells its hooks about a container, and what the container's annotations ask of Berth.
// Source: OCI Runtime Specification, "State" and "Linux Device Access". Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/rdma_grant.hpp"

namespace berth {

/// Annotations berth.pool, berth.device and berth.interface; empty: not there.
struct ContainerRequest {
  std::string pool;
  std::string device;     ///< id or PCI address
  std::string interface;  ///< name inside the container
};

struct ContainerState {
  std::string id;
  int pid = 0;  ///< of the container's first process; 0: it has none (any more)
  std::string bundle;
  ContainerRequest request;
};

/// Reads the state, of at most `limit` bytes. nullopt if no annotation asks for a device; then nothing but the
/// annotations has been looked at. Throws Error{host} if it is malformed, and Error{usage} if an annotation "berth.…"
/// is.
std::optional<ContainerState> parse_container_state(std::string_view text, std::size_t limit);

/// One entry of the container's list of device rules; empty: any.
struct ContainerDeviceRule {
  bool allow = false;
  char type = 'a';  ///< 'a', 'b' or 'c'
  std::optional<unsigned> major;
  std::optional<unsigned> minor;
  std::string access;  ///< of "rwm"
};

/// What of a bundle's config.json matters here.
struct ContainerConfig {
  std::string root;  ///< of the file system; relative to the bundle, or absolute
  std::vector<ContainerDeviceRule> devices;
};
/// Throws Error{host}.
ContainerConfig parse_container_config(std::string_view text, std::size_t limit);

/// Those of `nodes` that the rules do not let the container open for reading and writing; the last rule that speaks of
/// a device counts.
std::vector<RdmaNode> find_denied(const std::vector<ContainerDeviceRule>& rules, const std::vector<RdmaNode>& nodes);

}  // namespace berth
