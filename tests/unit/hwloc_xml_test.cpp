#include "launcher/core/hwloc_xml.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <string>

#include "tests/error_of.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

// Two packages of two cores; sparse NUMA nodes, one without CPUs; a switch with a GPU and a NIC; a Socket Direct pair.
constexpr std::string_view kNode = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000001f" allowed_cpuset="0x00000007">
    <info name="Backend" value="Linux"/>
    <object type="Package" os_index="0" cpuset="0x3">
      <object type="NUMANode" os_index="0" cpuset="0x3" gp_index="10"/>
      <object type="Core" cpuset="0x1"><object type="PU" os_index="0" cpuset="0x1"/></object>
      <object type="Core" cpuset="0x2"><object type="PU" os_index="1" cpuset="0x2"/></object>
      <object type="Bridge" bridge_type="0-1">
        <object type="Bridge" bridge_type="1-1">
          <object type="Bridge" bridge_type="1-1">
            <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0302 [10de:20b0] [0000:0000] a1"/>
          </object>
          <object type="Bridge" bridge_type="1-1">
            <object type="PCIDev" pci_busid="0000:02:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00">
              <object type="OSDev" name="ib0" osdev_type="2"/>
              <object type="OSDev" name="mlx5_0" osdev_type="3">
                <info name="SysImageGUID" value="506b:4b03:00aa:bbcc"/>
                <info name="Port1State" value="4"/>
              </object>
            </object>
          </object>
        </object>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0xc">
      <object type="NUMANode" os_index="8" cpuset="0xc" gp_index="11"/>
      <object type="Core" cpuset="0x4"><object type="PU" os_index="2" cpuset="0x4"/></object>
      <object type="Core" cpuset="0x8"><object type="PU" os_index="3" cpuset="0x8"/></object>
      <object type="Bridge" bridge_type="0-1">
        <object type="PCIDev" pci_busid="0000:81:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00">
          <object type="OSDev" name="mlx5_1" osdev_type="3">
            <info name="SysImageGUID" value="506b:4b03:00aa:bbcc"/>
          </object>
        </object>
        <object type="PCIDev" pci_busid="0000:82:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00">
          <object type="OSDev" name="mlx5_2" osdev_type="3">
            <info name="Port1State" value="1"/>
          </object>
        </object>
        <object type="PCIDev" pci_busid="0000:83:00.0" pci_type="0200 [8086:1572] [0000:0000] 02">
          <object type="OSDev" name="eth0" osdev_type="2"/>
        </object>
        <object type="PCIDev" pci_busid="0000:83:02.0" pci_type="0200 [8086:154c] [0000:0000] 02"/>
      </object>
    </object>
    <object type="NUMANode" os_index="252" cpuset="0x0" gp_index="12"/>
  </object>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="gp">
    <indexes length="6">10 11 </indexes>
    <u64values length="12">10 40 40 10 </u64values>
  </distances2>
</topology>
)";

std::string replaced(std::string_view what, std::string_view with) {
  std::string text(kNode);
  text.replace(text.find(what), what.size(), with);
  return text;
}

std::string refusal(const std::string& text) {
  const Error error = testing::error_of([&] { parse_hwloc_xml(text, "n.xml"); });
  CHECK(error.code == ErrorCode::host);
  return error.why;
}

std::vector<std::string> addresses(NetworkKind kind, bool with_down = false) {
  const HwlocMachine machine = parse_hwloc_xml(kNode, "n.xml");
  std::vector<std::string> found;
  for (const NetworkFunction& function : find_network_functions(machine, kind, with_down))
    found.push_back(machine.functions[function.function].address);
  return found;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("A topology's CPUs, NUMA nodes and distances are read", "[topology]") {
  const Topology topology = parse_hwloc_xml(kNode, "n.xml").topology;
  CHECK(to_string(topology.cpus) == "0-3");
  CHECK(to_string(topology.allowed) == "0-2");
  CHECK(topology.cores.size() == 4);
  CHECK(topology.packages.size() == 2);
  REQUIRE(topology.numa_nodes.size() == 3);
  CHECK(topology.numa_nodes[1] == NumaNode{8, *parse_cpu_list("2-3")});
  CHECK(topology.numa_nodes[2] == NumaNode{252, {}});
  CHECK(topology.distances[0] == std::vector<std::uint32_t>{10, 40, 0});
}

TEST_CASE("Network functions are told apart by what drives them, and down ones are left out", "[topology]") {
  CHECK(addresses(NetworkKind::automatic) == Texts{"0000:02:00.0", "0000:81:00.0"});
  CHECK(addresses(NetworkKind::fabric, true) == Texts{"0000:02:00.0", "0000:81:00.0", "0000:82:00.0"});
  CHECK(addresses(NetworkKind::network) == Texts{"0000:83:00.0"});
  CHECK(addresses(NetworkKind::bare_vf) == Texts{"0000:83:02.0"});
  CHECK(addresses(NetworkKind::pci).size() == 4);
}

TEST_CASE("Functions of one Socket Direct card share their port", "[topology]") {
  const HwlocMachine machine = parse_hwloc_xml(kNode, "n.xml");
  const auto functions = find_network_functions(machine, NetworkKind::fabric);
  CHECK(functions[0].port == functions[1].port);
  CHECK(functions[0].port == "506b:4b03:00aa:bbcc#0");
  CHECK(find_network_functions(machine, NetworkKind::network)[0].port == "0000:83:00#0");
}

TEST_CASE("Paths between GPUs and NICs are those of NCCL", "[topology]") {
  const HwlocMachine machine = parse_hwloc_xml(kNode, "n.xml");
  const Locality locality(machine.topology);
  const auto path = [&](std::size_t a, std::size_t b) {
    return to_string(locality.path(machine.functions[a].location, machine.functions[b].location));
  };
  CHECK(machine.functions[0].has_gpu);
  CHECK(path(0, 1) == "PIX");
  CHECK(path(2, 3) == "PHB");
  CHECK(path(0, 2) == "SYS");
  CHECK(path(1, 1) == "PIX");
}

TEST_CASE("hwloc 3 writes kinds of OS devices as bits, and notes beside the machine", "[topology]") {
  std::string text = replaced("version=\"2.0\"", "version=\"3.0\"");
  const auto replace = [&](std::string_view what, std::string_view with) {
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
      text.replace(at, what.size(), with);
  };
  replace("osdev_type=\"2\"", "osdev_type=\"16\"");
  replace("osdev_type=\"3\"", "osdev_type=\"48\"");
  replace(" a1\"", " a1 00\"");
  replace("gp_index=\"10\"", "gp_index=\"10\" id=\"obj10\"");
  replace("</topology>",
          "<info name=\"Backend\" value=\"Linux\"/><cpukind cpuset=\"0xf\" forced_efficiency=\"0\"/></topology>");
  const HwlocMachine known = parse_hwloc_xml(kNode, "n.xml");
  const HwlocMachine machine = parse_hwloc_xml(text, "n.xml");
  CHECK(machine.topology == known.topology);
  REQUIRE(machine.functions.size() == known.functions.size());
  for (std::size_t number = 0; number < known.functions.size(); ++number) {
    CHECK(machine.functions[number].networks == known.functions[number].networks);
    CHECK(machine.functions[number].fabrics == known.functions[number].fabrics);
    CHECK(machine.functions[number].has_gpu == known.functions[number].has_gpu);
  }
  // Bull's BXI is a network by its bits, and a fabric by its subtype; co-processors may be GPUs as well.
  replace("name=\"mlx5_1\" osdev_type=\"48\"", "name=\"bxi0\" subtype=\"BXI\" osdev_type=\"16\"");
  replace("name=\"mlx5_2\" osdev_type=\"48\"", "name=\"cuda0\" osdev_type=\"12\"");
  const HwlocMachine other = parse_hwloc_xml(text, "n.xml");
  CHECK(other.functions[2].fabrics == Texts{"bxi0"});
  CHECK(other.functions[3].has_gpu);
}

TEST_CASE("A topology that makes no sense is refused with its place", "[topology]") {
  CHECK_THAT(refusal("<html/>"), ContainsSubstring("n.xml:1:1: <html> is no topology"));
  CHECK_THAT(refusal(replaced("version=\"2.0\"", "version=\"4.0\"")), ContainsSubstring("n.xml:3:1: hwloc 4"));
  CHECK_THAT(refusal(replaced("version=\"2.0\"", "version=\"new\"")), ContainsSubstring("'new' is not a number"));
  CHECK_THAT(refusal(replaced("osdev_type=\"3\"", "osdev_type=\"ib\"")), ContainsSubstring("'ib' is not a number"));
  CHECK_THAT(refusal(std::string(kNode.substr(0, 700))), ContainsSubstring("n.xml:"));
  CHECK_THAT(refusal(replaced("cpuset=\"0x0000000f\"", "cpuset=\"0x0\"")),
             ContainsSubstring("n.xml:4:3: the machine has no CPUs"));
  CHECK_THAT(refusal(replaced("cpuset=\"0x3\"", "cpuset=\"0xz\"")), ContainsSubstring("n.xml:6:5"));
  CHECK_THAT(refusal(replaced("cpuset=\"0x3\"", "cpuset=\"0x1" + std::string(3000, ',') + "\"")),
             ContainsSubstring("beyond"));
  CHECK_THAT(refusal(replaced("os_index=\"8\"", "os_index=\"0\"")), ContainsSubstring("NUMA node 0 is there twice"));
  CHECK_THAT(refusal(replaced("os_index=\"8\"", "os_index=\"-1\"")), ContainsSubstring("'-1' is not a number"));
  CHECK_THAT(refusal(replaced("10 40 40 10", "10 40 40")), ContainsSubstring("do not make a square"));
  CHECK_THAT(refusal(replaced("10 40 40 10", "10 40 x 10")), ContainsSubstring("'x' is not a number"));
  CHECK_THAT(refusal(replaced("0000:01:00.0", "zero")), ContainsSubstring("pci_busid"));
  CHECK_THAT(refusal("<topology version=\"2.0\"></topology>"), ContainsSubstring("no object"));
  CHECK_THAT(refusal("<topology version=\"2.0\"><object type=\"Machine\" cpuset=\"0x1\"/></topology>"),
             ContainsSubstring("no cores"));
}

TEST_CASE("Every beginning of a topology is refused, none crashes", "[topology]") {
  for (std::size_t length = 0; length + 12 < kNode.size(); ++length) refusal(std::string(kNode.substr(0, length)));
}
