#include <fcntl.h>
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/rdma_grant.hpp"
#include "launcher/system/rdma_port.hpp"
#include "tests/unit/temporary_directory.hpp"

using namespace berth;

namespace {

constexpr const char* kLinkGid = "fe80:0000:0000:0000:180a:76ff:fe59:e95c";
constexpr const char* kOthersGid = "0000:0000:0000:0000:0000:ffff:0a4d:0001";
constexpr const char* kOwnGid = "0000:0000:0000:0000:0000:ffff:0a4d:0002";

const IpPrefix kOwn = parse_ip_prefix("10.77.0.2/16").value();
const IpPrefix kMissing = parse_ip_prefix("fd77::2/64").value();

/// A port of a device as sysfs has it, with a table of GIDs.
class FakePort {
 public:
  FakePort() {
    directory_.file(kPort + "state", "4: ACTIVE\n");
    directory_.file(kPort + "link_layer", "Ethernet\n");
  }
  void gid(unsigned index, const std::string& gid, const std::string& netdev, const std::string& type) const {
    directory_.file(fmt::format("{}gids/{}", kPort, index), gid + '\n');
    directory_.file(fmt::format("{}gid_attrs/ndevs/{}", kPort, index), netdev + '\n');
    directory_.file(fmt::format("{}gid_attrs/types/{}", kPort, index), type + '\n');
  }
  [[nodiscard]] int sysfs() const { return sysfs_.get(); }

 private:
  inline static const std::string kPort = "class/infiniband/mlx5_3/ports/1/";
  TemporaryDirectory directory_;
  UniqueFd sysfs_{open(directory_.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
};

}  // namespace

TEST_CASE("The state of a port is read, and nothing where there is no port", "[rdma]") {
  const FakePort port;
  CHECK(read_rdma_port_state(port.sysfs(), "mlx5_3", 1) == "4: ACTIVE");
  CHECK(read_rdma_port_state(port.sysfs(), "mlx5_3", 2).empty());
  CHECK(read_rdma_port_state(port.sysfs(), "mlx5_30", 1).empty());
  CHECK_FALSE(is_infiniband_port(port.sysfs(), "mlx5_3", 1));
}

TEST_CASE("The GID of an address is found among those of others, by its netdev, RoCE v2 first", "[rdma]") {
  const FakePort port;
  port.gid(0, kLinkGid, "rdma0", "IB/RoCE v1");
  port.gid(1, kLinkGid, "rdma0", "RoCE v2");
  port.gid(2, kOthersGid, "rdma0", "RoCE v2");
  port.gid(4, kOwnGid, "rdma0", "IB/RoCE v1");
  CHECK(find_gid_index(port.sysfs(), "mlx5_3", 1, "rdma0", kOwn) == 4U);  // a device without version 2
  port.gid(10, kOwnGid, "eth7", "RoCE v2");
  CHECK(find_gid_index(port.sysfs(), "mlx5_3", 1, "rdma0", kOwn) == 4U);
  port.gid(11, kOwnGid, "rdma0", "RoCE v2");
  CHECK(find_gid_index(port.sysfs(), "mlx5_3", 1, "rdma0", kOwn) == 11U);
  CHECK_FALSE(find_gid_index(port.sysfs(), "mlx5_3", 1, "rdma0", kMissing));
  CHECK_FALSE(find_gid_index(port.sysfs(), "mlx5_4", 1, "rdma0", kOwn));
}

TEST_CASE("An address without a GID is named", "[rdma]") {
  const FakePort port;
  port.gid(0, "0000:0000:0000:0000:0000:0000:0000:0000", "", "");
  CHECK(find_address_without_gid(port.sysfs(), "mlx5_3", 1, "rdma0", {}) == "fe80::/10");
  port.gid(1, kLinkGid, "rdma0", "RoCE v2");
  CHECK_FALSE(find_address_without_gid(port.sysfs(), "mlx5_3", 1, "rdma0", {}));
  CHECK(find_address_without_gid(port.sysfs(), "mlx5_3", 1, "rdma0", {kOwn}) == "10.77.0.2");
  port.gid(2, kOwnGid, "rdma0", "RoCE v2");
  CHECK_FALSE(find_address_without_gid(port.sysfs(), "mlx5_3", 1, "rdma0", {kOwn}));
  CHECK(find_address_without_gid(port.sysfs(), "mlx5_3", 1, "rdma0", {kOwn, kMissing}) == "fd77::2");
}

TEST_CASE("What a rank is given of an RDMA device survives the way to it", "[rdma]") {
  RdmaGrant grant{.device = "mlx5_3",
                  .port = 2,
                  .nodes = {{"uverbs3", 231, 195, 0666, 0, 0}, {"rdma_cm", 10, 58, 0660, 0, 115}},
                  .self_test = true,
                  .interface = "rdma0",
                  .addresses = {kOwn},
                  .gid_index = 0,
                  .selinux_label = "system_u:system_r:rank_t:s0"};
  CHECK(parse_rdma_grant(to_json_value(grant)) == grant);
  grant.gid_index.reset();
  CHECK(parse_rdma_grant(to_json_value(grant)) == grant);
  CHECK(port_name(grant) == "mlx5_3:2");
}
