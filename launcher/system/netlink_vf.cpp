#include "launcher/system/netlink_vf.hpp"

#include <fmt/format.h>
#include <linux/netlink.h>

#include <cerrno>

#include "launcher/core/error.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/vf_messages.hpp"

namespace berth {

VfSocket::VfSocket() : socket_(NETLINK_ROUTE) {}

std::optional<VfAttributes> VfSocket::find(unsigned pf, unsigned vf) {
  std::optional<VfAttributes> found;
  const NetlinkMessage message = make_vf_query(pf);
  const int error_number = socket_.transact(message.get(), [&](nlmsghdr* header) { found = parse_vf(header, vf); });
  if (error_number == ENODEV) return std::nullopt;
  if (error_number != 0)
    throw system_error(error_number, fmt::format("cannot read the attributes of VF {} of interface {}", vf, pf),
                       origin());
  return found;
}

int VfSocket::change(unsigned pf, unsigned vf, const VfAttributes& attributes) {
  const NetlinkMessage message = make_vf_change(pf, vf, attributes);
  return socket_.transact(message.get(), {});
}

}  // namespace berth
