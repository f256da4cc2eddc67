// What a rank is given of an RDMA device: made by the broker, used in the rank's own process.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/values.hpp"

namespace berth {

/// A char device of the rank's /dev/infiniband, with the owner and mode that it has on the host.
struct RdmaNode {
  std::string name;  ///< "uverbs3", "umad3", "issm3", "rdma_cm"
  unsigned major = 0;
  unsigned minor = 0;
  unsigned mode = 0;
  unsigned uid = 0;
  unsigned gid = 0;
  bool operator==(const RdmaNode&) const = default;
};

struct RdmaGrant {
  std::string device;
  unsigned port = 1;
  std::vector<RdmaNode> nodes;  ///< the first is the uverbs device
  bool self_test = false;
  std::string interface;            ///< netdev whose GIDs the rank uses; empty in the host's network
  std::vector<IpPrefix> addresses;  ///< of that netdev
  /// Of the first address, where the port's table has the GIDs of other ranks, too: libraries would take any.
  std::optional<unsigned> gid_index;
  std::string selinux_label;  ///< for the exec; empty: none
  bool operator==(const RdmaGrant&) const = default;
};

nlohmann::json to_json_value(const RdmaGrant& grant);
/// Throws nlohmann::json::exception if it is not what to_json_value() makes.
RdmaGrant parse_rdma_grant(const nlohmann::json& object);

/// "mlx5_3:1", as UCX names a port.
std::string port_name(const RdmaGrant& grant);

}  // namespace berth
