#include "launcher/system/netlink_rdma.hpp"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <rdma/rdma_netlink.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "launcher/system/namespaces.hpp"

namespace berth {

namespace {

constexpr std::uint8_t kPortActive = 4;  // IB_PORT_ACTIVE; the header that has it is libibverbs'

int message_type(int command) { return RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command); }

/// NETLINK_RDMA has no header of its own.
NetlinkMessage make_request(int command, int flags = 0) {
  return make_netlink_message(message_type(command), flags, nullptr, 0);
}

class Attributes {
 public:
  explicit Attributes(nlmsghdr* header) { nlmsg_parse(header, 0, attributes_, RDMA_NLDEV_ATTR_MAX - 1, nullptr); }
  explicit Attributes(nlattr* nest) { nla_parse_nested(attributes_, RDMA_NLDEV_ATTR_MAX - 1, nest, nullptr); }

  [[nodiscard]] unsigned number(int attribute) const {
    return attributes_[attribute] ? nla_get_u32(attributes_[attribute]) : 0;
  }
  [[nodiscard]] std::uint8_t byte(int attribute) const {
    return attributes_[attribute] ? nla_get_u8(attributes_[attribute]) : std::uint8_t{0};
  }
  [[nodiscard]] std::string text(int attribute) const {
    return attributes_[attribute] ? parse_netlink_text(attributes_[attribute]) : std::string{};
  }
  [[nodiscard]] nlattr* get(int attribute) const { return attributes_[attribute]; }

 private:
  nlattr* attributes_[RDMA_NLDEV_ATTR_MAX] = {};
};

RdmaLink parse_device(nlmsghdr* header) {
  const Attributes attributes(header);
  return {attributes.number(RDMA_NLDEV_ATTR_DEV_INDEX), attributes.text(RDMA_NLDEV_ATTR_DEV_NAME), {}};
}

RdmaPort parse_port(nlmsghdr* header) {
  const Attributes attributes(header);
  return {attributes.number(RDMA_NLDEV_ATTR_PORT_INDEX), attributes.byte(RDMA_NLDEV_ATTR_PORT_STATE) == kPortActive,
          attributes.number(RDMA_NLDEV_ATTR_NDEV_INDEX)};
}

/// The kernel's huge_encode_dev(): 20 bits of minor number around 12 of major.
RdmaCharDevice parse_char_device(nlmsghdr* header) {
  const Attributes attributes(header);
  const nlattr* number = attributes.get(RDMA_NLDEV_ATTR_CHARDEV);
  const std::uint64_t device = number ? nla_get_u64(number) : 0;
  return {attributes.text(RDMA_NLDEV_ATTR_CHARDEV_NAME), static_cast<unsigned>((device & 0xfff00U) >> 8U),
          static_cast<unsigned>((device & 0xffU) | ((device >> 12U) & 0xfff00U))};
}

/// Both ways of saying who uses a device have this form: a list of objects that may be the kernel's own, or have a
/// process that is still alive.
void collect_users(nlmsghdr* header, int list, std::vector<int>& users) {
  const Attributes attributes(header);
  nlattr* objects = attributes.get(list);
  if (!objects) return;
  int left = nla_len(objects);
  for (auto* entry = static_cast<nlattr*>(nla_data(objects)); nla_ok(entry, left); entry = nla_next(entry, &left)) {
    const Attributes object(entry);
    if (object.get(RDMA_NLDEV_ATTR_RES_KERN_NAME)) continue;
    const auto pid = static_cast<int>(object.number(RDMA_NLDEV_ATTR_RES_PID));
    if (std::find(users.begin(), users.end(), pid) == users.end()) users.push_back(pid);
  }
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
  const int error_number = socket_.transact(request.get(), [&](nlmsghdr* header) {
    const Attributes attributes(header);
    if (attributes.get(RDMA_NLDEV_SYS_ATTR_NETNS_MODE) && attributes.byte(RDMA_NLDEV_SYS_ATTR_NETNS_MODE) == 0)
      mode = RdmaNetnsMode::exclusive;
  });
  if (error_number != 0 && error_number != EINVAL && error_number != EOPNOTSUPP)
    throw system_error(error_number, "cannot tell the kernel's RDMA netns mode", socket_.origin());
  return mode;
}

std::vector<RdmaLink> RdmaSocket::list() {
  std::vector<RdmaLink> devices;
  int error_number = socket_.dump([] { return make_request(RDMA_NLDEV_CMD_GET, NLM_F_DUMP); }, [&] { devices.clear(); },
                                  [&](nlmsghdr* header) { devices.push_back(parse_device(header)); });
  for (RdmaLink& device : devices) {
    if (error_number != 0) break;
    error_number = socket_.dump(
        [&] {
          NetlinkMessage request = make_request(RDMA_NLDEV_CMD_PORT_GET, NLM_F_DUMP);
          put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
          return request;
        },
        [&] { device.ports.clear(); }, [&](nlmsghdr* header) { device.ports.push_back(parse_port(header)); });
    if (error_number == ENODEV || error_number == EINVAL) error_number = 0;  // it has just gone: a device without ports
  }
  if (error_number != 0) throw system_error(error_number, "cannot list RDMA devices", socket_.origin());
  return devices;
}

std::optional<RdmaLink> RdmaSocket::find(const std::string& name) {
  for (RdmaLink& device : list())
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
      socket_.transact(request.get(), [&](nlmsghdr* header) { found = parse_char_device(header); });
  // ENOENT: no such kind; the others: not for this device, or port (a RoCE port has no subnet manager).
  if (error_number == ENOENT || error_number == EOPNOTSUPP || error_number == EINVAL || error_number == ENXIO)
    return std::nullopt;
  if (error_number != 0)
    throw system_error(error_number,
                       fmt::format("cannot find the {} device of '{}'", kind, device ? device->name : "any"),
                       socket_.origin());
  return found;
}

std::vector<int> RdmaSocket::users(const RdmaLink& device) {
  std::vector<int> users;
  const auto collect = [&](int command, int list) {
    return socket_.dump(
        [&] {
          NetlinkMessage request = make_request(command, NLM_F_DUMP);
          put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
          return request;
        },
        [&] { users.clear(); }, [&](nlmsghdr* header) { collect_users(header, list, users); });
  };
  int error_number = collect(RDMA_NLDEV_CMD_RES_CTX_GET, RDMA_NLDEV_ATTR_RES_CTX);
  // Kernels before 5.14 list no contexts; what matters most of what lies in them are QPs.
  if (error_number == EINVAL || error_number == EOPNOTSUPP)
    error_number = collect(RDMA_NLDEV_CMD_RES_QP_GET, RDMA_NLDEV_ATTR_RES_QP);
  if (error_number != 0)
    throw system_error(error_number, fmt::format("cannot tell who uses RDMA device '{}'", device.name),
                       socket_.origin());
  return users;
}

void RdmaSocket::move(const RdmaLink& device, const UniqueFd& netns) {
  const NetlinkMessage request = make_request(RDMA_NLDEV_CMD_SET);
  put(request, RDMA_NLDEV_ATTR_DEV_INDEX, device.index);
  put(request, RDMA_NLDEV_NET_NS_FD, static_cast<unsigned>(netns.get()));
  const int error_number = socket_.transact(request.get(), {});
  if (error_number != 0) throw move_error(error_number, device, socket_.origin());
}

std::optional<RdmaNetnsMode> read_rdma_netns_mode() {
  try {
    return RdmaSocket().netns_mode();
  } catch (const Error&) {  // no such netlink family, or nobody behind it
    return std::nullopt;
  }
}

}  // namespace berth
