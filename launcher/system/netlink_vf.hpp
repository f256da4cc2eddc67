// What a PF's driver says of its VFs, and what it can be told to do with them (rtnetlink, IFLA_VFINFO_LIST).
#pragma once

#include <optional>
#include <string>

#include "launcher/core/vf_attributes.hpp"
#include "launcher/system/netlink_socket.hpp"

namespace berth {

class VfSocket {
 public:
  VfSocket();

  /// Everything that the driver of the PF with ifindex `pf` reports of its VF number `vf`; nullopt if there is no such
  /// PF or VF. Throws Error{host}.
  [[nodiscard]] std::optional<VfAttributes> find(unsigned pf, unsigned vf);

  /// Sets the fields that `attributes` has, in the order in which it declares them; both rates or neither. The kernel
  /// stops at the first that the driver refuses, so ask for one at a time to know which. Returns 0 or errno.
  [[nodiscard]] int change(unsigned pf, unsigned vf, const VfAttributes& attributes);
  /// Where that errno came from, as system_error() wants it.
  [[nodiscard]] std::string origin() const { return socket_.origin(); }

 private:
  NetlinkSocket socket_;
};

}  // namespace berth
