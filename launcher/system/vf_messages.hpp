// What the kernel says about the VFs of a PF, and is told to do with them: messages of NETLINK_ROUTE whose attribute
// IFLA_VFINFO_LIST include/uapi/linux/if_link.h describes and net/core/rtnetlink.c fills in and reads.
#pragma once

#include <optional>

#include "launcher/core/vf_attributes.hpp"
#include "launcher/system/netlink_socket.hpp"

namespace berth {

/// Asks for everything about the PF with ifindex `pf`, its VFs included.
NetlinkMessage make_vf_query(unsigned pf);

/// What such an answer says of VF number `vf`; nullopt if it does not mention it. Attributes that are too short, or
/// that the driver left as the kernel preset them, count as not known.
std::optional<VfAttributes> parse_vf(const nlmsghdr* message, unsigned vf);

/// Sets the fields that `attributes` has, in the order in which it declares them; both rates or neither.
NetlinkMessage make_vf_change(unsigned pf, unsigned vf, const VfAttributes& attributes);

}  // namespace berth
