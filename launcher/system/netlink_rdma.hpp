// RDMA devices through NETLINK_RDMA: which there are in a netns, their char devices, who uses them, and their move.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/berth_counters.hpp"
#include "launcher/core/inventory.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/netlink_socket.hpp"
#include "launcher/system/rdma_messages.hpp"

namespace berth {

/// Speaks of the netns in which it was opened. All functions throw Error{host}.
class RdmaSocket {
 public:
  RdmaSocket();  ///< in the calling thread's netns
  /// In `netns`; needs CAP_SYS_ADMIN.
  static RdmaSocket in_netns(const UniqueFd& netns);

  [[nodiscard]] RdmaNetnsMode netns_mode();
  /// Those that stay in the netns, and others at most once, whatever moves meanwhile.
  [[nodiscard]] std::vector<RdmaLink> list();
  /// Without its ports.
  [[nodiscard]] std::optional<RdmaLink> find(const std::string& name);

  /// The char device of kind "uverbs" of `device`, "umad" or "issm" of its `port`, or (without a device) "rdma_cm";
  /// nullopt if there is none. May load the module that makes it. To be asked for again after each move: numbers
  /// change.
  [[nodiscard]] std::optional<RdmaCharDevice> find_char_device(const std::string& kind,
                                                               const std::optional<RdmaLink>& device = {},
                                                               unsigned port = 0);

  /// Processes that have the device open, each once; 0 stands for those that are dying just now,
  /// and comes last.
  [[nodiscard]] std::vector<int> users(const RdmaLink& device);

  /// The driver's counters of a port, by the kernel's names; none where the driver has none.
  [[nodiscard]] std::map<std::string, std::uint64_t> counters(const RdmaLink& device, unsigned port);
  /// What each process has made on the device; 0 stands for those that are dying just now.
  [[nodiscard]] std::map<int, RdmaObjects> objects(const RdmaLink& device);

  /// Moves the device into `netns`. The kernel looks at the calling thread's netns, not at the socket's: the device has
  /// to be there. All its users lose it. Throws with what to do instead if its driver cannot be moved.
  void move(const RdmaLink& device, const UniqueFd& netns);

  /// Whether the device has the name now; false: another one has it, in whatever netns.
  [[nodiscard]] bool rename(const RdmaLink& device, const std::string& name);

 private:
  int dump_devices(std::vector<RdmaLink>& devices);
  std::vector<RdmaLink> list_without_ports();
  int collect_owners(const RdmaLink& device, int command, int list, std::map<int, unsigned>& owners);

  NetlinkSocket socket_;
};

/// The kernel's mode; nullopt if it has no RDMA.
std::optional<RdmaNetnsMode> read_rdma_netns_mode();

}  // namespace berth
