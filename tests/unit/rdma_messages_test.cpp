#include "launcher/system/rdma_messages.hpp"

#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/error_of.hpp"

using namespace berth;

namespace {

/// Aligned as a receive buffer is.
class Message {
 public:
  explicit Message(const std::string& bytes) : size_(bytes.size()), words_(size_ / sizeof(std::uint32_t) + 1) {
    std::memcpy(words_.data(), bytes.data(), size_);
  }
  void cut(std::size_t size) { words_.front() = static_cast<std::uint32_t>(size); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const nlmsghdr* get() const { return reinterpret_cast<const nlmsghdr*>(words_.data()); }

 private:
  std::size_t size_;
  std::vector<std::uint32_t> words_;  // the first is nlmsg_len
};

/// From hexadecimal digits, header included.
Message recorded(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return Message(bytes);
}

/// From attributes, behind a header made for them.
Message made(const std::vector<std::string>& attributes) {
  std::string bytes(sizeof(nlmsghdr), '\0');
  for (const std::string& attribute : attributes) bytes += attribute;
  Message message(bytes);
  message.cut(bytes.size());
  return message;
}

/// An attribute with its padding. `length`: what its header claims, if that is not true.
std::string attribute(unsigned type, const std::string& value, std::optional<std::size_t> length = {}) {
  const auto claimed = static_cast<std::uint16_t>(length.value_or(sizeof(nlattr) + value.size()));
  const auto number = static_cast<std::uint16_t>(type);
  std::string bytes(sizeof(nlattr), '\0');
  std::memcpy(bytes.data(), &claimed, sizeof claimed);
  std::memcpy(bytes.data() + sizeof claimed, &number, sizeof number);
  bytes += value;
  bytes.resize((bytes.size() + 3) / 4 * 4);
  return bytes;
}
template <typename Number>
std::string number(unsigned type, Number value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return attribute(type, bytes);
}
std::string text(unsigned type, std::string value) { return attribute(type, value + '\0'); }
std::string index(std::uint32_t value) { return number(RDMA_NLDEV_ATTR_DEV_INDEX, value); }
std::string name(const std::string& value) { return text(RDMA_NLDEV_ATTR_DEV_NAME, value); }
std::string port(std::uint32_t value) { return number(RDMA_NLDEV_ATTR_PORT_INDEX, value); }

/// Linux 7.2, soft RoCE; a program of process 2469 has a context and a QP.
constexpr const char* kDevice =
    "740000000114020001000000a709000008000100020000000b000200727865317630000008000300010000000c000400763c2201c0010000"
    "0c000600ffbbc0feff85b7a00c000700ffbbc0feff85b7a005000e00010000000500540000000000050065000100000009004300726f6365"
    "00000000";
constexpr const char* kPort =
    "500000000514020001000000a709000008000100000000000b0002007278653076300000080003000100000005000c000400000005000d00"
    "0500000008003200040000000a0033007066307630000000";
constexpr const char* kSystem =
    "300000000614000001000000a709000005004200000000000500600000000000050067000100000005005d0001000000";
constexpr const char* kUverbs =
    "3c0000000f14000001000000a7090000080049000e0000000c004800c0e70000000000000c00470002000000000000000c00460075766572"
    "62733000";
constexpr const char* kRdmaCm =
    "340000000f14000001000000a70900000c004800040a1000000000000c00470004000000000000000c00460072646d615f636d00";
constexpr const char* kQps =
    "b40000000a14020001000000a709000008000100000000000b000200727865307630000090001300540014000800030001000000080015002a"
    "00000008003c001c00000008001c00a5090000080016000000000008001700000000000800180000000000050019000000000005001a000200"
    "000005001b000100000038001400080003000100000008001500010000000c001d0069625f636f726500080018000000000005001a00010000"
    "0005001b0003000000";
constexpr const char* kContexts =
    "3c0000001614020001000000a709000008000100000000000b00020072786530763000001800560014005700080040000500000008001c00a5"
    "090000";

}  // namespace

TEST_CASE("Messages about RDMA devices, as recorded", "[rdma]") {
  CHECK(parse_rdma_device(recorded(kDevice).get()) == RdmaLink{2, "rxe1v0", {}});
  CHECK(parse_rdma_port(recorded(kPort).get()) == RdmaPort{1, true, 4});
  CHECK(parse_rdma_netns_mode(recorded(kSystem).get()) == RdmaNetnsMode::exclusive);
  CHECK(parse_rdma_char_device(recorded(kUverbs).get()) == RdmaCharDevice{"uverbs0", 231, 192});
  CHECK(parse_rdma_char_device(recorded(kRdmaCm).get()) == RdmaCharDevice{"rdma_cm", 10, 260});
  CHECK(parse_rdma_owners(recorded(kQps).get(), RDMA_NLDEV_ATTR_RES_QP) == std::map<int, unsigned>{{2469, 1}});
  CHECK(parse_rdma_owners(recorded(kContexts).get(), RDMA_NLDEV_ATTR_RES_CTX) == std::map<int, unsigned>{{2469, 1}});
}

TEST_CASE("Constructed messages of hardware: InfiniBand ports, foreign netdevs, many minors, unknown attributes",
          "[rdma]") {
  const std::string unknown = number(RDMA_NLDEV_ATTR_MAX + 7U, std::uint64_t{1});
  CHECK(parse_rdma_device(made({index(17), name("mlx5_17"), port(1), text(RDMA_NLDEV_ATTR_FW_VERSION, "22.39.1002"),
                                number(RDMA_NLDEV_ATTR_NODE_GUID, std::uint64_t{0xb83fd2030012a4f6}),
                                text(RDMA_NLDEV_ATTR_DEV_PROTOCOL, "ib"), unknown})
                              .get()) == RdmaLink{17, "mlx5_17", {}});
  // An InfiniBand port that the subnet manager has not configured yet (INIT), without a netdev.
  CHECK(parse_rdma_port(made({index(0), name("mlx5_0"), port(2), number(RDMA_NLDEV_ATTR_LID, std::uint32_t{65535}),
                              number(RDMA_NLDEV_ATTR_PORT_STATE, std::uint8_t{2}), unknown})
                            .get()) == RdmaPort{2, false, 0});
  // The 301st uverbs device has a dynamic major, and a minor of more than eight bits.
  CHECK(parse_rdma_char_device(made({text(RDMA_NLDEV_ATTR_CHARDEV_NAME, "uverbs300"),
                                     number(RDMA_NLDEV_ATTR_CHARDEV, std::uint64_t{44 | 511U << 8U | 0x100U << 12U})})
                                   .get()) == RdmaCharDevice{"uverbs300", 511, 300});
  CHECK(parse_rdma_netns_mode(made({number(RDMA_NLDEV_SYS_ATTR_NETNS_MODE, std::uint8_t{1})}).get()) ==
        RdmaNetnsMode::shared);
  CHECK_FALSE(parse_rdma_netns_mode(made({}).get()));
  // A name that fills its field: no terminating zero is needed.
  CHECK(parse_rdma_device(made({index(1), attribute(RDMA_NLDEV_ATTR_DEV_NAME, std::string(63, 'n'))}).get()).name ==
        std::string(63, 'n'));
  // A process that is dying has no pid any more, and two objects may be of one process.
  const auto object = [](const std::string& content) { return attribute(RDMA_NLDEV_ATTR_RES_QP_ENTRY, content); };
  const std::string mine = number(RDMA_NLDEV_ATTR_RES_PID, std::uint32_t{77});
  CHECK(parse_rdma_owners(made({attribute(RDMA_NLDEV_ATTR_RES_QP,
                                          object(mine) + object(number(RDMA_NLDEV_ATTR_RES_LQPN, std::uint32_t{3})) +
                                              object(mine) + object(text(RDMA_NLDEV_ATTR_RES_KERN_NAME, "ib_core")))})
                              .get(),
                          RDMA_NLDEV_ATTR_RES_QP) == std::map<int, unsigned>{{77, 2}, {0, 1}});
  CHECK(parse_rdma_owners(made({index(0)}).get(), RDMA_NLDEV_ATTR_RES_QP).empty());
}

TEST_CASE("Messages that were cut off are refused, wherever that was", "[rdma]") {
  const auto survives = [](const char* hex, auto parse) {
    Message message = recorded(hex);
    for (std::size_t size = sizeof(nlmsghdr); size < message.size(); ++size) {
      message.cut(size);
      try {
        parse(message.get());
      } catch (const Error& error) {
        CHECK(error.code == ErrorCode::host);
      }
    }
    message.cut(message.size() - 9);  // in the middle of the last attribute, or of the last object of a list
    CHECK_THROWS_AS(parse(message.get()), Error);
  };
  survives(kDevice, parse_rdma_device);
  survives(kUverbs, parse_rdma_char_device);
  survives(kRdmaCm, parse_rdma_char_device);
  survives(kQps, [](const nlmsghdr* message) { return parse_rdma_owners(message, RDMA_NLDEV_ATTR_RES_QP); });
  survives(kContexts, [](const nlmsghdr* message) { return parse_rdma_owners(message, RDMA_NLDEV_ATTR_RES_CTX); });
}

TEST_CASE("Messages whose attributes are wrong are refused, saying which", "[rdma]") {
  const std::string good_name = name("mlx5_0");
  const auto why = [](const std::vector<std::string>& attributes) {
    return testing::error_of([&] { parse_rdma_device(made(attributes).get()); }).why;
  };
  CHECK(why({good_name}) == "attribute 1 is missing");
  CHECK(why({index(1)}) == "attribute 2 is not a name: ''");
  CHECK(why({index(1), name("")}) == "attribute 2 is not a name: ''");
  CHECK(why({index(1), name("../mlx5_0")}) == "attribute 2 is not a name: '../mlx5_0'");
  CHECK(why({good_name, attribute(RDMA_NLDEV_ATTR_DEV_INDEX, "xy")}) == "attribute 1 has 2 bytes instead of 4");
  CHECK(why({good_name, attribute(RDMA_NLDEV_ATTR_DEV_INDEX, "")}) == "attribute 1 has 0 bytes instead of 4");
  for (const unsigned length : {0U, 3U, 9U, 65535U})
    CHECK(why({good_name, attribute(RDMA_NLDEV_ATTR_DEV_INDEX, "wxyz", length)}).find("ends in the middle") !=
          std::string::npos);
  // A list whose object claims more than the list has.
  const std::string object = attribute(RDMA_NLDEV_ATTR_RES_QP_ENTRY, "wxyz", 400);
  CHECK_THROWS_AS(parse_rdma_owners(made({attribute(RDMA_NLDEV_ATTR_RES_QP, object)}).get(), RDMA_NLDEV_ATTR_RES_QP),
                  Error);
}

TEST_CASE("Counters of an RDMA port, by their names", "[rdma]") {
  const auto counter = [](const std::string& content) {
    return attribute(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY, content);
  };
  const auto named = [&](const std::string& text_, std::uint64_t value) {
    return counter(text(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME, text_) +
                   number(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE, value));
  };
  const auto parse = [&](const std::string& list) {
    return parse_rdma_counters(made({index(0), port(1), attribute(RDMA_NLDEV_ATTR_STAT_HWCOUNTERS, list)}).get());
  };
  CHECK(parse(named("sent_pkts", 18446744073709551615U) + named("rcvd_pkts", 0)) ==
        std::map<std::string, std::uint64_t>{{"rcvd_pkts", 0}, {"sent_pkts", 18446744073709551615U}});
  CHECK(parse("").empty());
  CHECK(parse_rdma_counters(made({index(0)}).get()).empty());
  CHECK_THROWS_AS(parse(counter(text(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME, "sent_pkts"))), Error);
  CHECK_THROWS_AS(parse(counter(number(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE, std::uint64_t{1}))), Error);
  CHECK_THROWS_AS(parse(named("sent_pkts", 1) + attribute(RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY, "", 400)), Error);
}
