#include "launcher/system/sysfs.hpp"

#include <sys/stat.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <thread>

#include "launcher/core/error.hpp"
#include "launcher/system/root_dir.hpp"
#include "tests/unit/temporary_directory.hpp"

using namespace berth;

namespace {

/// A fake sysfs, laid out with the same links as the kernel's.
class FakeSysfs : public TemporaryDirectory {
 public:
  FakeSysfs() {
    directory("sys/class/net");
    directory("sys/bus/pci/devices");
  }

  void pci_device(const std::string& address, const std::string& driver, const std::string& numa_node = "0") const {
    const std::string device = device_path(address);
    file(device + "/class", "0x020000\n");
    file(device + "/numa_node", numa_node + "\n");
    file(device + "/local_cpulist", "0-7,16-23\n");
    if (!driver.empty()) link(device + "/driver", "../../../bus/pci/drivers/" + driver);
    link("sys/bus/pci/devices/" + address, "../../../devices/pci0000:00/" + address);
  }

  void virtual_function(const std::string& pf, unsigned index, const std::string& vf, const std::string& driver) const {
    pci_device(vf, driver);
    link(device_path(vf) + "/physfn", "../" + pf);
    link(device_path(pf) + "/virtfn" + std::to_string(index), "../" + vf);
  }

  /// A netdev of a PCI function, or (with an empty address) one that is no hardware.
  std::string net_device(const std::string& name, const std::string& address) const {
    const std::string parent = address.empty() ? "sys/devices/virtual" : device_path(address);
    const std::string device = parent + "/net/" + name;
    file(device + "/ifindex", "7\n");
    file(device + "/address", "02:00:00:00:00:01\n");
    file(device + "/mtu", "9000\n");
    file(device + "/operstate", "up\n");
    file(device + "/speed", "100000\n");
    if (!address.empty()) link(device + "/device", "../../../" + address);
    link("sys/class/net/" + name, "../../../" + device);
    return device;
  }

  static std::string device_path(const std::string& address) { return "sys/devices/pci0000:00/" + address; }
};

Inventory read(const FakeSysfs& fake) {
  KnownSpeeds none;
  return read_inventory(fake.path(), "n1", none);
}

}  // namespace

TEST_CASE("A NIC with two VFs, one of them parked", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core");
  fake.file(FakeSysfs::device_path("0000:3b:00.0") + "/sriov_totalvfs", "8\n");
  fake.file(FakeSysfs::device_path("0000:3b:00.0") + "/sriov_numvfs", "2\n");
  fake.directory(FakeSysfs::device_path("0000:3b:00.0") + "/infiniband/mlx5_0");
  fake.net_device("eth2", "0000:3b:00.0");
  fake.virtual_function("0000:3b:00.0", 0, "0000:3b:00.2", "mlx5_core");
  fake.virtual_function("0000:3b:00.0", 1, "0000:3b:00.3", "mlx5_core");
  fake.net_device("eth2v1", "0000:3b:00.3");

  const Inventory node = read(fake);
  CHECK(node.host == "n1");
  REQUIRE(node.net_devices.size() == 2);
  const NetDevice& eth2 = node.net_devices[0];
  CHECK(eth2.name == "eth2");
  CHECK(eth2.index == 7);
  CHECK(to_string(eth2.mac) == "02:00:00:00:00:01");
  CHECK(eth2.mtu == 9000);
  CHECK(eth2.link == LinkState::up);
  CHECK(eth2.speed_mbps == 100000);
  CHECK(eth2.driver == "mlx5_core");
  CHECK(eth2.pci == parse_pci_address("0000:3b:00.0"));
  CHECK(eth2.rdma_devices == std::vector<std::string>{"mlx5_0"});
  CHECK(eth2.numa_node == 0U);
  CHECK(to_string(eth2.local_cpus) == "0-7,16-23");

  REQUIRE(node.physical_functions.size() == 1);
  CHECK(node.physical_functions[0] == PhysicalFunction{*parse_pci_address("0000:3b:00.0"), "eth2", 8, 2});
  REQUIRE(node.virtual_functions.size() == 2);
  CHECK(node.virtual_functions[0].netdev.empty());
  CHECK(node.virtual_functions[1].netdev == "eth2v1");
  CHECK(node.virtual_functions[1].index == 1);
  CHECK(node.virtual_functions[1].pf == *parse_pci_address("0000:3b:00.0"));
}

TEST_CASE("Where functions hang, what fabric they have, and which of them are GPUs", "[sysfs]") {
  const FakeSysfs fake;
  const std::string port = "sys/devices/pci0000:16/0000:16:02.0/";
  const auto function = [&](const std::string& address, const std::string& kind, const std::string& driver) {
    fake.file(port + address + "/class", kind + "\n");
    fake.file(port + address + "/vendor", "0x15b3\n");
    fake.file(port + address + "/numa_node", "0\n");
    fake.file(port + address + "/local_cpulist", "0-7\n");
    if (!driver.empty()) fake.link(port + address + "/driver", "../../../../bus/pci/drivers/" + driver);
    fake.link("sys/bus/pci/devices/" + address, "../../../devices/pci0000:16/0000:16:02.0/" + address);
  };
  function("0000:17:00.0", "0x020700", "mlx5_core");
  function("0000:18:00.0", "0x030200", "nvidia");
  function("0000:19:00.0", "0x030000", "ast");  // the management controller's console
  function("0000:1a:00.0", "0x030000", "amdgpu");
  function("0000:1b:00.0", "0x120000", "");
  const std::string ib = port + "0000:17:00.0/infiniband/mlx5_0";
  fake.file(ib + "/sys_image_guid", "506b:4b03:0011:2233\n");
  fake.file(ib + "/ports/1/link_layer", "InfiniBand\n");
  fake.link(ib + "/device", "../../../0000:17:00.0");
  fake.link("sys/class/infiniband/mlx5_0", "../../devices/pci0000:16/0000:16:02.0/0000:17:00.0/infiniband/mlx5_0");
  const std::string net = port + "0000:17:00.0/net/ib0";
  fake.file(net + "/ifindex", "3\n");
  fake.file(net + "/type", "32\n");
  fake.link(net + "/device", "../../../0000:17:00.0");
  fake.link("sys/class/net/ib0", "../../devices/pci0000:16/0000:16:02.0/0000:17:00.0/net/ib0");

  const Inventory node = read(fake);
  REQUIRE(node.rdma_devices.size() == 1);
  CHECK(node.rdma_devices[0].image_guid == "506b:4b03:0011:2233");
  CHECK(node.rdma_devices[0].vendor == "15b3");
  CHECK(node.rdma_devices[0].link_layer == "InfiniBand");
  CHECK(node.rdma_devices[0].pci_path == "pci0000:16/0000:16:02.0/0000:17:00.0");
  REQUIRE(node.net_devices.size() == 1);
  CHECK(node.net_devices[0].link_layer == "InfiniBand");
  CHECK(node.net_devices[0].pci_path == node.rdma_devices[0].pci_path);
  REQUIRE(node.gpus.size() == 3);
  CHECK(node.gpus[0] ==
        Gpu{*parse_pci_address("0000:18:00.0"), 0U, CpuSet::range(0, 7), "pci0000:16/0000:16:02.0/0000:18:00.0"});
  CHECK(to_string(node.gpus[1].pci) == "0000:1a:00.0");
  CHECK(to_string(node.gpus[2].pci) == "0000:1b:00.0");
}

TEST_CASE("VFs come in the order of their numbers, not of their addresses' text", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core");
  fake.net_device("eth2", "0000:3b:00.0");
  fake.virtual_function("0000:3b:00.0", 10, "0000:3b:00.1", "mlx5_core");
  fake.virtual_function("0000:3b:00.0", 2, "0000:3b:01.4", "");
  const Inventory node = read(fake);
  REQUIRE(node.virtual_functions.size() == 2);
  CHECK(node.virtual_functions[0].index == 2);
  CHECK(node.virtual_functions[0].driver.empty());
  CHECK(node.virtual_functions[1].index == 10);
}

TEST_CASE("A speed that is known is not read again, as long as the link is the same and its carrier stays", "[sysfs]") {
  const FakeSysfs fake;
  const std::string eth2 = fake.net_device("eth2", "");
  fake.file(eth2 + "/carrier_changes", "3\n");
  KnownSpeeds known;
  const auto speed = [&] { return read_inventory(fake.path(), "n1", known).net_devices.at(0).speed_mbps; };
  CHECK(speed() == 100000);
  CHECK(known == KnownSpeeds{{"eth2", {7, LinkState::up, 3, 100000}}});
  fake.file(eth2 + "/speed", "25000\n");  // what nobody may ask for
  CHECK(speed() == 100000);
  fake.file(eth2 + "/carrier_changes", "5\n");
  CHECK(speed() == 25000);
  fake.file(eth2 + "/speed", "40000\n");
  fake.file(eth2 + "/ifindex", "8\n");  // another device under the same name
  CHECK(speed() == 40000);
  fake.file(eth2 + "/speed", "50000\n");
  fake.file(eth2 + "/operstate", "down\n");  // unknown speeds are known, too, until the link comes up
  fake.file(eth2 + "/speed", "-1\n");
  CHECK(speed() == 0);
  CHECK(known.at("eth2").mbps == 0);
  fake.net_device("eth3", "");
  std::filesystem::remove(fake.path("sys/class/net/eth2"));
  CHECK(speed() == 100000);
  CHECK(known.size() == 1);
}

TEST_CASE("Interfaces come in natural order; plain files in class/net are none", "[sysfs]") {
  const FakeSysfs fake;
  for (const std::string name : {"eth10", "eth2", "eth1"}) fake.net_device(name, "");
  fake.file("sys/class/net/bonding_masters", "bond0\n");
  const Inventory node = read(fake);
  REQUIRE(node.net_devices.size() == 3);
  CHECK(node.net_devices[0].name == "eth1");
  CHECK(node.net_devices[1].name == "eth2");
  CHECK(node.net_devices[2].name == "eth10");
  CHECK_FALSE(node.net_devices[0].pci);
}

TEST_CASE("Unknown is unknown: no NUMA node, no speed, odd states", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core", "-1");
  const std::string eth2 = fake.net_device("eth2", "0000:3b:00.0");
  for (const std::string speed : {"-1", "4294967295", "", "fast", "99999999999999999999", "1e5", " 5"}) {
    fake.file(eth2 + "/speed", speed + "\n");
    CHECK(read(fake).net_devices[0].speed_mbps == 0);
  }
  CHECK_FALSE(read(fake).net_devices[0].numa_node);
  for (const auto& [text, state] : {std::pair{"dormant", LinkState::unknown}, std::pair{"", LinkState::unknown},
                                    std::pair{"lowerlayerdown", LinkState::down}}) {
    fake.file(eth2 + "/operstate", text);
    CHECK(read(fake).net_devices[0].link == state);
  }
}

TEST_CASE("Garbage in attributes is not believed", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core", "99999999999999999999");
  const std::string eth2 = fake.net_device("eth2", "0000:3b:00.0");
  fake.file(eth2 + "/mtu", std::string(1 << 20, '9'));
  fake.file(eth2 + "/address", "not a MAC");
  fake.file(FakeSysfs::device_path("0000:3b:00.0") + "/local_cpulist", "0-99999999");
  fake.file(FakeSysfs::device_path("0000:3b:00.0") + "/sriov_totalvfs", "-3");
  const Inventory node = read(fake);
  REQUIRE(node.net_devices.size() == 1);
  CHECK(node.net_devices[0].mtu == 0);
  CHECK(node.net_devices[0].mac == MacAddress{});
  CHECK(node.net_devices[0].local_cpus.empty());
  CHECK_FALSE(node.net_devices[0].numa_node);
  CHECK(node.physical_functions[0].total_vfs == 0);
}

TEST_CASE("Entries that cannot be what they seem are left out", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core");
  fake.net_device("eth2", "0000:3b:00.0");
  fake.directory("sys/bus/pci/devices/not-an-address");
  fake.net_device("a-name-that-is-too-long", "");
  fake.pci_device("0000:3b:00.2", "mlx5_core");  // names a PF that does not name it back
  fake.link(FakeSysfs::device_path("0000:3b:00.2") + "/physfn", "../0000:3b:00.0");
  fake.link(FakeSysfs::device_path("0000:3b:00.0") + "/virtfnX", "../0000:3b:00.2");
  const Inventory node = read(fake);
  CHECK(node.net_devices.size() == 1);
  CHECK(node.virtual_functions.empty());
}

TEST_CASE("SR-IOV functions that are no network controllers are not PFs", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:01:00.0", "nvme");
  fake.file(FakeSysfs::device_path("0000:01:00.0") + "/class", "0x010802\n");
  fake.file(FakeSysfs::device_path("0000:01:00.0") + "/sriov_totalvfs", "32\n");
  CHECK(read(fake).physical_functions.empty());
}

TEST_CASE("An empty node is an empty inventory; no directory is an error", "[sysfs]") {
  const TemporaryDirectory empty;
  KnownSpeeds none;
  const Inventory node = read_inventory(empty.path(), "n1", none);
  CHECK(node.net_devices.empty());
  CHECK(node.physical_functions.empty());
  CHECK_THROWS_AS(read_inventory(empty.path("missing"), "n1", none), Error);
}

TEST_CASE("Devices may vanish while they are read", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core");
  fake.net_device("eth2", "0000:3b:00.0");
  std::atomic<bool> done = false;
  std::thread remover([&] {
    while (!done) {
      fake.virtual_function("0000:3b:00.0", 0, "0000:3b:00.2", "mlx5_core");
      for (const std::string& path :
           {std::string("sys/bus/pci/devices/0000:3b:00.2"), FakeSysfs::device_path("0000:3b:00.0") + "/virtfn0",
            FakeSysfs::device_path("0000:3b:00.2")}) {
        std::filesystem::remove_all(fake.path(path));
      }
    }
  });
  for (int round = 0; round < 500; ++round) {
    const Inventory node = read(fake);
    CHECK(node.net_devices.size() == 1);
    CHECK(node.virtual_functions.size() <= 1);
  }
  done = true;
  remover.join();
}

TEST_CASE("Nothing outside the root is read, whatever links say", "[root_dir]") {
  const TemporaryDirectory tree;
  tree.file("secret", "outside");
  tree.file("root/inside", "inside \n");
  tree.link("root/absolute", tree.path("secret"));
  tree.link("root/relative", "../secret");
  tree.link("root/own", "/inside");
  const RootDir root(tree.path("root"));
  CHECK_FALSE(root.read_text("absolute"));
  CHECK_FALSE(root.read_text("relative"));
  CHECK_FALSE(root.read_text("../secret"));
  CHECK(root.read_text("own") == "inside");
  CHECK(root.read_text("/inside") == "inside");
}

TEST_CASE("What is not a plain file, or too long, is not read", "[root_dir]") {
  const TemporaryDirectory tree;
  tree.file("long", std::string(5000, 'x'));
  REQUIRE(mkfifo(tree.path("fifo").c_str(), 0600) == 0);
  const RootDir root(tree.path());
  CHECK_FALSE(root.read_text("long"));
  CHECK(root.read_text("long", 5000)->size() == 5000);
  CHECK_FALSE(root.read_text("fifo"));  // and does not wait for a writer
  CHECK_FALSE(root.read_text("."));
  CHECK_FALSE(root.read_text("absent"));
  CHECK(root.list("absent").empty());
  CHECK_FALSE(root.read_link_name("long"));
}

TEST_CASE("RDMA devices: function, netdev, port", "[sysfs]") {
  const FakeSysfs fake;
  fake.pci_device("0000:3b:00.0", "mlx5_core", "1");
  const auto rdma = [&](const std::string& parent, const std::string& name, const char* state) {
    const std::string path = parent + "/infiniband/" + name;
    fake.file(path + "/ports/1/state", std::string(state) + "\n");
    fake.file(path + "/ports/1/rate", "2.5 Gb/sec (1X SDR)\n");
    fake.file(path + "/ports/1/gid_attrs/ndevs/0", "eth2\n");
    fake.link("sys/class/infiniband/" + name, "../../../" + path);
    return path;
  };
  fake.link(rdma(FakeSysfs::device_path("0000:3b:00.0"), "mlx5_0", "4: ACTIVE") + "/device", "../../../0000:3b:00.0");
  rdma("sys/devices/virtual", "rxe0", "1: DOWN");

  const auto devices = read(fake).rdma_devices;
  REQUIRE(devices.size() == 2);
  CHECK(devices[0] == RdmaDevice{"mlx5_0", parse_pci_address("0000:3b:00.0"), "eth2", LinkState::up, 2500, 1U,
                                 *parse_cpu_list("0-7,16-23"), "pci0000:00/0000:3b:00.0"});
  CHECK(devices[1] == RdmaDevice{"rxe0", {}, "eth2", LinkState::down, 2500, {}, {}});

  // What the port of a RoCE device is, its netdev says, if it is here.
  fake.file("sys/devices/virtual/infiniband/rxe0/ports/1/link_layer", "Ethernet\n");
  CHECK(read(fake).rdma_devices[1] == RdmaDevice{"rxe0", {}, "eth2", LinkState::unknown, 0, {}, {}, "", "Ethernet"});
  fake.net_device("eth2", "");
  CHECK(read(fake).rdma_devices[1] == RdmaDevice{"rxe0", {}, "eth2", LinkState::up, 100000, {}, {}, "", "Ethernet"});
}
