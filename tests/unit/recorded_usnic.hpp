// The sysfs of a node with Cisco usNIC, which no test machine has: files and links as drivers/infiniband/hw/usnic and
// enic make them.
#pragma once

#include <fmt/format.h>

#include <string>

#include "launcher/core/values.hpp"
#include "tests/unit/temporary_directory.hpp"

namespace berth {

class RecordedUsnic : public TemporaryDirectory {
 public:
  /// usnic_0 (uverbs0, eth4, 10.10.0.1) and usnic_1 (uverbs1, 231:193, eth5, 10.10.0.2), each with 4 VFs.
  RecordedUsnic() {
    file("sys/module/usnic_verbs/parameters/usnic_ib_share_vf", "1\n");
    file("sys/class/infiniband_verbs/abi_version", "6\n");
    add_vnic(0, "0000:08:00.0", "eth4");
    add_vnic(1, "0000:09:00.0", "eth5");
  }

  /// The GID that the driver makes of MAC and IPv4 address.
  static std::string gid(const MacAddress& mac, const std::array<unsigned, 4>& ip) {
    return fmt::format("fe80:0000:{:02x}{:02x}:{:02x}{:02x}:{:02x}{:02x}:{:02x}ff:fe{:02x}:{:02x}{:02x}\n", ip[0],
                       ip[1], ip[2], ip[3], mac[0] ^ 2U, mac[1], mac[2], mac[3], mac[4], mac[5]);
  }
  static MacAddress mac(unsigned number) { return {0x00, 0x25, 0xb5, 0, 0, static_cast<std::uint8_t>(number + 1)}; }

  static std::string device(unsigned number) { return fmt::format("sys/class/infiniband/usnic_{}/", number); }
  static std::string uverbs(unsigned number) { return fmt::format("sys/class/infiniband_verbs/uverbs{}/", number); }

  void remove(const std::string& below) const { std::filesystem::remove_all(path(below)); }
  /// What cannot be read by anybody, root included.
  void make_unreadable(const std::string& below) const {
    remove(below);
    directory(below);
  }
  void qp(unsigned number, unsigned qpn, int pid, unsigned vf) const {
    file(fmt::format("{}qpn/{}/summary", device(number), qpn),
         fmt::format("QPN: {} State: (RTS) PID: {} VF Idx: {} WQ[0] RQ[0] CQ[0] CQ[1]\n", qpn, pid, vf));
  }
  /// Without an IPv4 address of its interface.
  void take_address(unsigned number) const {
    file(device(number) + "ports/1/state", "2: INIT\n");
    file(device(number) + "ports/1/gids/0", gid(mac(number), {0, 0, 0, 0}));
  }
  /// Its interface has moved to another netns, and is called differently there.
  void move_netdev(unsigned number, const std::string& name, const std::string& inside) const {
    std::filesystem::remove(path("sys/class/net/" + name));
    remove(fmt::format("sys/devices/pci0000:00/0000:{:02x}:00.0/net", number + 8));
    file(device(number) + "iface", inside + '\n');
  }

 private:
  void add_vnic(unsigned number, const std::string& pci, const std::string& netdev) const {
    const std::string pf = "sys/devices/pci0000:00/" + pci;
    file(pf + "/class", "0x020000\n");
    file(pf + "/numa_node", fmt::format("{}\n", number));
    file(pf + "/local_cpulist", fmt::format("{}-{}\n", number * 8, number * 8 + 7));
    file(pf + "/sriov_totalvfs", "4\n");
    file(pf + "/sriov_numvfs", "4\n");
    link("sys/bus/pci/devices/" + pci, "../../../devices/pci0000:00/" + pci);
    const std::string net = pf + "/net/" + netdev;
    file(net + "/ifindex", fmt::format("{}\n", number + 4));
    file(net + "/address", to_string(mac(number)) + '\n');
    file(net + "/mtu", "9000\n");
    file(net + "/type", "1\n");
    file(net + "/operstate", "up\n");
    file(net + "/speed", "10000\n");
    link(net + "/device", "../../../" + pci);
    link("sys/class/net/" + netdev, "../../devices/pci0000:00/" + pci + "/net/" + netdev);
    const std::string name = fmt::format("usnic_{}", number);
    const std::string rdma = pf + "/infiniband/" + name;
    file(rdma + "/iface", netdev + '\n');
    file(rdma + "/max_vf", "4\n");
    file(rdma + "/qp_per_vf", "6\n");
    file(rdma + "/cq_per_vf", "6\n");
    file(rdma + "/fw_ver", "4.2(3a)\n");
    file(rdma + "/board_id", "207\n");
    file(rdma + "/ports/1/state", "4: ACTIVE\n");
    file(rdma + "/ports/1/link_layer", "Ethernet\n");
    file(rdma + "/ports/1/gids/0", gid(mac(number), {10, 10, 0, number + 1}));
    directory(rdma + "/qpn");
    link(rdma + "/device", "../../../" + pci);
    link("sys/class/infiniband/" + name, "../../devices/pci0000:00/" + pci + "/infiniband/" + name);
    const std::string verbs = fmt::format("{}/infiniband_verbs/uverbs{}", pf, number);
    file(verbs + "/ibdev", name + '\n');
    file(verbs + "/dev", fmt::format("231:{}\n", 192 + number));
    link(verbs + "/device", "../../../" + pci);
    link(fmt::format("sys/class/infiniband_verbs/uverbs{}", number),
         fmt::format("../../devices/pci0000:00/{}/infiniband_verbs/uverbs{}", pci, number));
  }
};

}  // namespace berth
