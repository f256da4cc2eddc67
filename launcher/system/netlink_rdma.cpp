#include "launcher/system/netlink_rdma.hpp"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "launcher/system/namespaces.hpp"
#include "launcher/system/polling.hpp"

namespace berth {

namespace {

/// A list takes less than a millisecond, a move tens of them.
constexpr std::chrono::seconds kListPatience{10};

int message_type(int command) { return RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command); }

/// NETLINK_RDMA has no header of its own.
NetlinkMessage make_request(int command, int flags = 0) {
  return make_netlink_message(message_type(command), flags, nullptr, 0);
}

Error move_error(int error_number, const RdmaLink& device, const std::string& origin) {
  std::string what = fmt::format("cannot move RDMA device '{}' into another network namespace", device.name);
  switch (error_number) {
    case EOPNOTSUPP:
      return {
          ErrorCode::host, std::move(what),
          "its driver cannot take the device away from programs that have it open (soft RoCE, siw and usNIC cannot), "
          "or the kernel's RDMA netns mode is shared",
          "use rdma = \"shared\" in the pool, and netns_mode=1 for the module ib_core"};
    case ENODEV:
      return {ErrorCode::host, std::move(what), "it is not in the network namespace that it was last seen in",
              "see: berth repair"};
    case EEXIST:
      return {ErrorCode::host, std::move(what), "another RDMA device has its name there",
              "rename the other one: rdma dev set NAME name NEW"};
    case EPERM:
      return system_error(error_number, std::move(what), origin, "run as root");
    default:
      return system_error(error_number, std::move(what), origin);
  }
}

}  // namespace

RdmaSocket::RdmaSocket() : socket_(NETLINK_RDMA) {}

RdmaSocket RdmaSocket::in_netns(const UniqueFd& netns) {
  const NetnsGuard inside(netns);
  return {};
}

RdmaNetnsMode RdmaSocket::netns_mode() {
  // Kernels before 5.2 know no modes: every device is seen everywhere.
  auto mode = RdmaNetnsMode::shared;
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_SYS_GET);
  const int error_number =
      socket_.transact(request.get(), [&](nlmsghdr* message) { mode = parse_rdma_netns_mode(message).value_or(mode); });
  if (error_number != 0 && error_number != EINVAL && error_number != EOPNOTSUPP)
    throw system_error(error_number, "cannot tell the kernel's RDMA netns mode", socket_.origin());
  return mode;
}

int RdmaSocket::dump_devices(std::vector<RdmaLink>& devices) {
  return socket_.dump([] { return make_request(RDMA_NLDEV_CMD_GET, NLM_F_DUMP); }, [&] { devices.clear(); },
                      [&](nlmsghdr* message) { devices.push_back(parse_rdma_device(message)); });
}

// Between two devices of a dump the kernel lets go of its list and remembers how many it has named: ib_enum_all_devs()
// and _nldev_get_dumpit() of drivers/infiniband/core. If one of those leaves the netns meanwhile, the next is passed
// over, and no NLM_F_DUMP_INTR says so. But such a list names the one that left, and the list after it does not.
std::vector<RdmaLink> RdmaSocket::list_without_ports() {
  std::vector<RdmaLink> devices, again;
  int error_number = 0;
  const bool settled = poll_until(kListPatience, [&] {
    error_number = dump_devices(devices);
    if (error_number == 0) error_number = dump_devices(again);
    return error_number != 0 || again == devices;
  });
  if (error_number != 0) throw system_error(error_number, "cannot list RDMA devices", socket_.origin());
  if (!settled)
    throw Error(ErrorCode::host, "cannot list RDMA devices",
                fmt::format("they have come and gone without a pause for {} s", kListPatience.count()),
                "see what moves them or binds their drivers anew: journalctl -k");
  return devices;
}

std::vector<RdmaLink> RdmaSocket::list() {
  std::vector<RdmaLink> devices = list_without_ports();
  for (RdmaLink& device : devices) {
    const int error_number = socket_.dump(
        [&] {
          NetlinkMessage request = make_request(RDMA_NLDEV_CMD_PORT_GET, NLM_F_DUMP);
          put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
          return request;
        },
        [&] { device.ports.clear(); }, [&](nlmsghdr* message) { device.ports.push_back(parse_rdma_port(message)); });
    // ENODEV, EINVAL: it has just gone; a device without ports.
    if (error_number != 0 && error_number != ENODEV && error_number != EINVAL)
      throw system_error(error_number, "cannot list RDMA devices", socket_.origin());
  }
  return devices;
}

std::optional<RdmaLink> RdmaSocket::find(const std::string& name) {
  for (RdmaLink& device : list_without_ports())
    if (device.name == name) return std::move(device);
  return std::nullopt;
}

std::optional<RdmaCharDevice> RdmaSocket::find_char_device(const std::string& kind,
                                                           const std::optional<RdmaLink>& device, unsigned port) {
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_GET_CHARDEV);
  put(request, RDMA_NLDEV_ATTR_CHARDEV_TYPE, kind);
  if (device) put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device->index);
  if (port > 0) put(request, RDMA_NLDEV_ATTR_PORT_INDEX, port);
  std::optional<RdmaCharDevice> found;
  const int error_number =
      socket_.transact(request.get(), [&](nlmsghdr* message) { found = parse_rdma_char_device(message); });
  // ENOENT: no such kind; the others: not for this device, or port (a RoCE port has no subnet manager).
  if (error_number == ENOENT || error_number == EOPNOTSUPP || error_number == EINVAL || error_number == ENXIO)
    return std::nullopt;
  if (error_number != 0)
    throw system_error(error_number,
                       fmt::format("cannot find the {} device of '{}'", kind, device ? device->name : "any"),
                       socket_.origin());
  return found;
}

int RdmaSocket::collect_owners(const RdmaLink& device, int command, int list, std::map<int, unsigned>& owners) {
  return socket_.dump(
      [&] {
        NetlinkMessage request = make_request(command, NLM_F_DUMP);
        put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
        return request;
      },
      [&] { owners.clear(); },
      [&](nlmsghdr* message) {
        for (const auto& [pid, count] : parse_rdma_owners(message, list)) owners[pid] += count;
      });
}

std::vector<int> RdmaSocket::users(const RdmaLink& device) {
  std::map<int, unsigned> owners;
  int error_number = collect_owners(device, RDMA_NLDEV_CMD_RES_CTX_GET, RDMA_NLDEV_ATTR_RES_CTX, owners);
  // Kernels before 5.14 list no contexts; what matters most of what lies in them are QPs.
  if (error_number == EINVAL || error_number == EOPNOTSUPP)
    error_number = collect_owners(device, RDMA_NLDEV_CMD_RES_QP_GET, RDMA_NLDEV_ATTR_RES_QP, owners);
  if (error_number != 0)
    throw system_error(error_number, fmt::format("cannot tell who uses RDMA device '{}'", device.name),
                       socket_.origin());
  std::vector<int> users;
  for (const auto& [pid, count] : owners) users.push_back(pid);
  std::ranges::reverse(users);  // who can be named first
  return users;
}

std::map<std::string, std::uint64_t> RdmaSocket::counters(const RdmaLink& device, unsigned port) {
  std::map<std::string, std::uint64_t> counters;
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_STAT_GET);
  put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
  put(request, RDMA_NLDEV_ATTR_PORT_INDEX, port);
  const int error_number =
      socket_.transact(request.get(), [&](nlmsghdr* message) { counters = parse_rdma_counters(message); });
  // EINVAL: the driver has none, or the kernel (before 5.2) does not know the request.
  if (error_number != 0 && error_number != EINVAL && error_number != EOPNOTSUPP)
    throw system_error(error_number, fmt::format("cannot read the counters of RDMA device '{}'", device.name),
                       socket_.origin());
  return counters;
}

std::map<int, RdmaObjects> RdmaSocket::objects(const RdmaLink& device) {
  struct Kind {
    int command;
    int list;
    unsigned RdmaObjects::*count;
  };
  std::map<int, RdmaObjects> objects;
  for (const Kind& kind : {Kind{RDMA_NLDEV_CMD_RES_QP_GET, RDMA_NLDEV_ATTR_RES_QP, &RdmaObjects::qps},
                           Kind{RDMA_NLDEV_CMD_RES_CQ_GET, RDMA_NLDEV_ATTR_RES_CQ, &RdmaObjects::cqs},
                           Kind{RDMA_NLDEV_CMD_RES_MR_GET, RDMA_NLDEV_ATTR_RES_MR, &RdmaObjects::mrs}}) {
    std::map<int, unsigned> owners;
    const int error_number = collect_owners(device, kind.command, kind.list, owners);
    if (error_number != 0 && error_number != EINVAL && error_number != EOPNOTSUPP)
      throw system_error(error_number, fmt::format("cannot list what is in use of RDMA device '{}'", device.name),
                         socket_.origin());
    for (const auto& [pid, count] : owners) objects[pid].*kind.count = count;
  }
  return objects;
}

void RdmaSocket::move(const RdmaLink& device, const UniqueFd& netns) {
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_SET);
  put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
  put(request, RDMA_NLDEV_NET_NS_FD, static_cast<unsigned>(netns.get()));
  const int error_number = socket_.transact(request.get(), {});
  if (error_number != 0) throw move_error(error_number, device, socket_.origin());
}

bool RdmaSocket::rename(const RdmaLink& device, const std::string& name) {
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_SET);
  put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
  put(request, RDMA_NLDEV_ATTR_DEV_NAME, name);
  const int error_number = socket_.transact(request.get(), {});
  if (error_number != 0 && error_number != EEXIST)
    throw system_error(error_number, fmt::format("cannot rename RDMA device '{}' to '{}'", device.name, name),
                       socket_.origin());
  return error_number == 0;
}

std::optional<RdmaNetnsMode> read_rdma_netns_mode() {
  try {
    return RdmaSocket().netns_mode();
  } catch (const Error&) {  // no such netlink family, or nobody behind it
    return std::nullopt;
  }
}

}  // namespace berth
