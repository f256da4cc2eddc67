// What the kernel says about RDMA devices: messages of NETLINK_RDMA, whose attributes include/uapi/rdma/rdma_netlink.h
// lists and drivers/infiniband/core/nldev.c fills in. Parsers throw Error{host} if a message is cut off, or an
// attribute is shorter than what it stands for, or what cannot be done without is missing; attributes that they do not
// know, and those of newer kernels, they pass over.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/inventory.hpp"

struct nlmsghdr;

namespace berth {

struct RdmaPort {
  unsigned number = 0;  ///< from 1
  bool active = false;
  unsigned ifindex = 0;  ///< of its netdev, if that is in the same netns; else 0
  bool operator==(const RdmaPort&) const = default;
};

/// An RDMA device as a netns sees it.
struct RdmaLink {
  unsigned index = 0;  ///< the kernel's number of it; the same in every netns, never used again
  std::string name;
  std::vector<RdmaPort> ports;
  bool operator==(const RdmaLink&) const = default;
};

/// A char device that belongs to an RDMA device (or to all, as rdma_cm).
struct RdmaCharDevice {
  std::string name;  ///< below /dev/infiniband
  unsigned major = 0;
  unsigned minor = 0;
  bool operator==(const RdmaCharDevice&) const = default;
};

/// Without ports: those are asked for device by device.
RdmaLink parse_rdma_device(const nlmsghdr* message);
RdmaPort parse_rdma_port(const nlmsghdr* message);
RdmaCharDevice parse_rdma_char_device(const nlmsghdr* message);
/// nullopt: the kernel says nothing about modes.
std::optional<RdmaNetnsMode> parse_rdma_netns_mode(const nlmsghdr* message);

/// How many of the objects that the message lists belong to which process; 0 stands for those that are dying. `list`:
/// the attribute that the objects are in (RDMA_NLDEV_ATTR_RES_CTX, RDMA_NLDEV_ATTR_RES_QP …).
std::map<int, unsigned> parse_rdma_owners(const nlmsghdr* message, int list);

/// The driver's counters of one port (RDMA_NLDEV_CMD_STAT_GET), by the kernel's names.
std::map<std::string, std::uint64_t> parse_rdma_counters(const nlmsghdr* message);

}  // namespace berth
