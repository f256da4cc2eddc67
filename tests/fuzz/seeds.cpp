#include "tests/fuzz/seeds.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "launcher/core/capture.hpp"
#include "launcher/image/squashfs.hpp"
#include "tests/sif_writer.hpp"
#include "tests/unit/synthetic_node.hpp"

namespace berth::fuzzing {
namespace {

using Texts = std::vector<std::string>;

// Of hwloc 2: two packages, sparse NUMA nodes, one of them without CPUs, a switch with GPU and NIC, a Socket Direct
// card.
constexpr const char* kMachine = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" cpuset="0x0000000f" complete_cpuset="0x0000001f" allowed_cpuset="0x00000007">
    <info name="Backend" value="Linux &amp; more"/>
    <object type="Package" cpuset="0x3">
      <object type="NUMANode" os_index="0" cpuset="0x3" gp_index="10"/>
      <object type="Core" cpuset="0x1"><object type="PU" os_index="0" cpuset="0x1"/></object>
      <object type="Core" cpuset="0x2"><object type="PU" os_index="1" cpuset="0x2"/></object>
      <object type="Bridge" bridge_type="0-1"><object type="Bridge" bridge_type="1-1">
        <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0302 [10de:20b0] [0000:0000] a1"/>
        <object type="PCIDev" pci_busid="0000:02:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00">
          <object type="OSDev" name="ib0" osdev_type="2"/>
          <object type="OSDev" name="mlx5_0" osdev_type="3">
            <info name="SysImageGUID" value="506b:4b03:00aa:bbcc"/><info name="Port1State" value="4"/>
          </object>
        </object>
      </object></object>
    </object>
    <object type="Package" cpuset="0xc">
      <object type="NUMANode" os_index="8" cpuset="0xc" gp_index="11"/>
      <object type="Core" cpuset="0x4"/><object type="Core" cpuset="0x8"/>
      <object type="Bridge" bridge_type="0-1">
        <object type="PCIDev" pci_busid="0000:81:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00">
          <object type="OSDev" name="mlx5_1" osdev_type="3"><info name="SysImageGUID" value="506b:4b03:00aa:bbcc"/></object>
        </object>
      </object>
    </object>
    <object type="NUMANode" os_index="252" cpuset="0x0" gp_index="12"/>
  </object>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
    <indexes length="4">0 8 </indexes>
    <u64values length="12">10 40 40 10 </u64values>
  </distances2>
</topology>
)";

// Of hwloc 1 and 3.
constexpr const char* kOldMachine = R"(<topology><object type="Machine" cpuset="0x00000003,0xffffffff">
<object type="Socket" cpuset="0xf...f"><object type="Core" cpuset="0x1"/></object>
<object type="NUMANode" os_index="0" cpuset="0x3"/><object type="PCIDev" pci_busid="0000:02:00.0"
 pci_type="0200 [8086:1572] [0000:0000] 01"><object type="OSDev" name="eth0" osdev_type="2"/></object></object></topology>)";
constexpr const char* kNewMachine = R"(<topology version="3.0"><object type="Machine" cpuset="0x3" id="obj1">
<object type="NUMANode" os_index="0" cpuset="0x3"><info name="MemoryModel" value="x"/></object>
<object type="Core" cpuset="0x1"/><object type="Core" cpuset="0x2"/>
<object type="PCIDev" pci_busid="10000:02:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00 00">
<object type="OSDev" name="mlx5_0" osdev_type="48"/></object></object>
<info name="hwlocVersion" value="3.0.0"/><cpukind cpuset="0x3"/></topology>)";

Texts make_captures() {
  Capture capture;
  capture.inventory = two_socket_node();
  capture.inventory.topology = {};
  capture.inventory.held = {{"0000:3b:02.1", true, true, "job 7.0", "", 7, std::nullopt}};
  capture.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
  capture.cpus = CpuSet::range(0, 3);
  capture.hwloc_xml = kMachine;
  capture.policy = "version = 1\n[[pool]]\nname = \"p\"\nkind = \"sriov\"\nparents = [\"eth2\"]\n";
  return {to_json_text(capture), kMachine, kNewMachine};
}

Texts make_policies() {
  Texts policies;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(BERTH_SOURCE_DIR "/examples")) {
    if (entry.path().extension() != ".toml") continue;
    std::ifstream file(entry.path());
    policies.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::sort(policies.begin(), policies.end());  // directories have no order
  return policies;
}

Texts make_problems() {
  return {R"({"topology": "x.xml", "order": "balance", "kind": "pci", "vfs": 2, "cap": 3,
 "ranks": [{"cpuset": "0x00000003", "gpu": "0000:01:00.0"}, {"cpuset": "2-3", "gpu": null}]})",
          R"({"problem": {"topology": "x.xml", "order": "locality", "devices": [
 {"id": "a", "pci": "0000:01:00.0", "port": "A1", "card": "A", "speed": "1/3", "cap": 2},
 {"id": "b", "pci": "0000:02:00.0", "speed": 2.5}], "ranks": [{"cpuset": "0x1,0x0000000f"}, {"cpuset": "0-1"}]}})"};
}

Texts make_containers() {
  return {R"({"ociVersion": "1.0.2", "id": "web1", "status": "creating", "pid": 4711, "bundle": "/run/bundle",
 "annotations": {"berth.pool": "fast", "berth.device": "0000:3b:02.1", "berth.interface": "eth1"}})",
          R"({"root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "network", "path": "/x"}], "resources":
 {"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 231, "minor": 192}]}}})"};
}

Texts make_images() {
  std::string squashfs(kSquashfsSuperblockSize, '\0');
  squashfs.replace(0, 4, "hsqs");
  testing::put_number(squashfs, 12, 131072, 4);  // block size
  testing::put_number(squashfs, 20, 1, 2);       // compression
  testing::put_number(squashfs, 22, 17, 2);      // log2 of the block size
  testing::put_number(squashfs, 28, 4, 2);       // version
  testing::put_number(squashfs, 40, kSquashfsSuperblockSize, 8);
  return {testing::make_sif(squashfs, "02"), squashfs};
}

Texts make_arguments() {
  return {"-v\napp.sif\n./solver\nin.dat", "--rdma-pool=fast\n--mount\n/a:/b\nnone\n--\nsh\n-c\nx",
          "--onload=latency\n--share\napp.sqsh\n--env=A=1,-B\n--\ntrue\n$BERTH_WAIT=30\n$BERTH_STATS=1\n"
          "$OMPI_COMM_WORLD_RANK=1\n$OMPI_COMM_WORLD_LOCAL_RANK=1\n$OMPI_COMM_WORLD_LOCAL_SIZE=2",
          "none\ntrue\n$SLURM_STEP_ID=0\n$SLURM_LOCALID=1\n$SLURM_PROCID=3\n$SLURM_NODEID=1\n"
          "$SLURM_STEP_TASKS_PER_NODE=2(x2),1\n$PMIX_SERVER_URI41=x;tcp4://127.0.0.1:40000"};
}

Texts make_values() {
  return {"0000:3b:02.1",      "0-3,8,10-11", "02:00:5e:10:00:01",
          "fd00::1/64",        "10.1.2.3/16", "n[001-128],m[1,3-5]x[0-9]",
          "/scratch:/data:ro", "HOME=/x y"};
}

}  // namespace

const std::vector<std::string_view>& targets() {
  static const std::vector<std::string_view> kTargets{"arguments", "capture", "container", "policy",
                                                      "problem",   "sif",     "topology",  "values"};
  return kTargets;
}

Texts make_seeds(std::string_view target) {
  if (target == "arguments") return make_arguments();
  if (target == "capture") return make_captures();
  if (target == "container") return make_containers();
  if (target == "policy") return make_policies();
  if (target == "problem") return make_problems();
  if (target == "sif") return make_images();
  if (target == "topology") return {kMachine, kOldMachine, kNewMachine};
  if (target == "values") return make_values();
  return {};
}

}  // namespace berth::fuzzing
