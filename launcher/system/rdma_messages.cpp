#include "launcher/system/rdma_messages.hpp"

#include <fmt/format.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <rdma/rdma_netlink.h>

#include <array>
#include <cstdint>
#include <functional>

#include "launcher/core/error.hpp"
#include "launcher/system/netlink_socket.hpp"

namespace berth {

namespace {

constexpr std::uint8_t kPortActive = 4;  // IB_PORT_ACTIVE; the header that has it is libibverbs'

[[noreturn]] void malformed(const std::string& why) {
  throw Error(ErrorCode::host, "cannot understand what the kernel says about RDMA devices", why);
}

class Attributes {
 public:
  /// NETLINK_RDMA has no header of its own.
  explicit Attributes(const nlmsghdr* message) : Attributes(nlmsg_attrdata(message, 0), nlmsg_attrlen(message, 0)) {}
  explicit Attributes(const nlattr* nest) : Attributes(static_cast<nlattr*>(nla_data(nest)), nla_len(nest)) {}

  [[nodiscard]] const nlattr* get(int attribute) const { return attributes_.at(static_cast<std::size_t>(attribute)); }

  /// nullopt if it is missing; throws if it is too short.
  template <typename Number>
  [[nodiscard]] std::optional<Number> number(int attribute) const {
    const nlattr* found = get(attribute);
    if (!found) return std::nullopt;
    if (nla_len(found) < static_cast<int>(sizeof(Number)))
      malformed(fmt::format("attribute {} has {} bytes instead of {}", attribute, nla_len(found), sizeof(Number)));
    Number value;
    nla_memcpy(&value, found, sizeof value);
    return value;
  }
  template <typename Number>
  [[nodiscard]] Number required(int attribute) const {
    const auto value = number<Number>(attribute);
    if (!value) malformed(fmt::format("attribute {} is missing", attribute));
    return *value;
  }
  [[nodiscard]] std::string name(int attribute) const {
    std::string text = get(attribute) ? parse_netlink_text(get(attribute)) : std::string();
    if (text.empty() || text.find('/') != std::string::npos)
      malformed(fmt::format("attribute {} is not a name: '{}'", attribute, text));
    return text;
  }

 private:
  Attributes(const nlattr* attribute, int left) {
    for (; nla_ok(attribute, left); attribute = nla_next(attribute, &left))
      if (const int type = nla_type(attribute); type < RDMA_NLDEV_ATTR_MAX)
        attributes_.at(static_cast<std::size_t>(type)) = attribute;
    if (left > 0) malformed(fmt::format("a message ends in the middle of an attribute ({} bytes)", left));
  }

  std::array<const nlattr*, RDMA_NLDEV_ATTR_MAX> attributes_{};
};

/// `list`: an attribute full of attributes that each hold an object's; null: no object.
void for_each_entry(const nlattr* list, const std::function<void(const Attributes&)>& body) {
  if (!list) return;
  int left = nla_len(list);
  const auto* entry = static_cast<const nlattr*>(nla_data(list));
  for (; nla_ok(entry, left); entry = nla_next(entry, &left)) body(Attributes(entry));
  if (left > 0) malformed("a list of objects ends in the middle of one");
}

}  // namespace

RdmaLink parse_rdma_device(const nlmsghdr* message) {
  const Attributes attributes(message);
  return {attributes.required<std::uint32_t>(RDMA_NLDEV_ATTR_DEV_INDEX), attributes.name(RDMA_NLDEV_ATTR_DEV_NAME), {}};
}

RdmaPort parse_rdma_port(const nlmsghdr* message) {
  const Attributes attributes(message);
  return {attributes.required<std::uint32_t>(RDMA_NLDEV_ATTR_PORT_INDEX),
          attributes.number<std::uint8_t>(RDMA_NLDEV_ATTR_PORT_STATE) == kPortActive,
          attributes.number<std::uint32_t>(RDMA_NLDEV_ATTR_NDEV_INDEX).value_or(0)};
}

/// The kernel's huge_encode_dev(): 20 bits of minor number around 12 of major.
RdmaCharDevice parse_rdma_char_device(const nlmsghdr* message) {
  const Attributes attributes(message);
  const auto device = attributes.required<std::uint64_t>(RDMA_NLDEV_ATTR_CHARDEV);
  return {attributes.name(RDMA_NLDEV_ATTR_CHARDEV_NAME), static_cast<unsigned>((device & 0xfff00U) >> 8U),
          static_cast<unsigned>((device & 0xffU) | ((device >> 12U) & 0xfff00U))};
}

std::optional<RdmaNetnsMode> parse_rdma_netns_mode(const nlmsghdr* message) {
  const auto mode = Attributes(message).number<std::uint8_t>(RDMA_NLDEV_SYS_ATTR_NETNS_MODE);
  if (!mode) return std::nullopt;
  return *mode == 0 ? RdmaNetnsMode::exclusive : RdmaNetnsMode::shared;
}

std::map<int, unsigned> parse_rdma_owners(const nlmsghdr* message, int list) {
  std::map<int, unsigned> owners;
  for_each_entry(Attributes(message).get(list), [&](const Attributes& object) {
    if (object.get(RDMA_NLDEV_ATTR_RES_KERN_NAME)) return;  // the kernel's own
    ++owners[static_cast<int>(object.number<std::uint32_t>(RDMA_NLDEV_ATTR_RES_PID).value_or(0))];
  });
  return owners;
}

std::map<std::string, std::uint64_t> parse_rdma_counters(const nlmsghdr* message) {
  std::map<std::string, std::uint64_t> counters;
  for_each_entry(Attributes(message).get(RDMA_NLDEV_ATTR_STAT_HWCOUNTERS), [&](const Attributes& counter) {
    counters[counter.name(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME)] =
        counter.required<std::uint64_t>(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE);
  });
  return counters;
}

}  // namespace berth
