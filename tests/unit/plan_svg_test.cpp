#include "launcher/core/plan_svg.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "launcher/core/plan_drawing.hpp"
#include "launcher/core/xml_text.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A group of the drawing: its box is the first rectangle in it.
struct Group {
  std::string name;
  std::size_t depth = 0;
  std::optional<Box> box;
  std::vector<Box> parts;  ///< boxes of the groups right inside
};

int number(const XmlElement& element, std::string_view key) {
  const std::string text(element.attribute(key));
  REQUIRE_FALSE(text.empty());
  return std::stoi(text);
}

bool contains(const Box& outer, const Box& inner) {
  return inner.x >= outer.x && inner.y >= outer.y && inner.right() <= outer.right() && inner.bottom() <= outer.bottom();
}

bool overlap(const Box& a, const Box& b) {
  return a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom();
}

/// Hands the box of a closed group to the group around it.
void close_group(std::vector<Group>& open) {
  const Group group = open.back();
  open.pop_back();
  if (!group.box || open.empty()) return;
  if (open.back().box) {
    INFO(group.name << " in " << open.back().name);
    CHECK(contains(*open.back().box, *group.box));
  }
  for (const Box& sibling : open.back().parts) {
    INFO(group.name << " at " << group.box->x << "," << group.box->y << " in " << open.back().name);
    CHECK_FALSE(overlap(sibling, *group.box));
  }
  open.back().parts.push_back(*group.box);
}

/// Checks that boxes lie in the boxes around them and never over each other. Counts elements by class.
std::map<std::string, std::size_t> check_boxes(const std::string& svg) {
  std::map<std::string, std::size_t> counts;
  std::vector<Group> open;
  for (const XmlElement& element : parse_xml(svg, "plan.svg", "no SVG")) {
    while (!open.empty() && open.back().depth >= element.depth) close_group(open);
    const std::string name(element.attribute("class"));
    ++counts[name];
    if (element.name == "g") open.push_back({name, element.depth, {}, {}});
    const bool in_legend = !open.empty() && open.back().name == "legend";
    if (element.name != "rect" || open.empty() || open.back().box || in_legend) continue;
    open.back().box =
        Box{number(element, "x"), number(element, "y"), number(element, "width"), number(element, "height")};
  }
  while (!open.empty()) close_group(open);
  return counts;
}

std::string draw(const PlanInput& input) { return make_plan_svg(input.inventory, {}, make_plan(input)); }

/// `packages` × `nodes` NUMA nodes with `cores` cores of `threads` threads each, and a NIC with `vfs` VFs on each node.
PlanInput grid(unsigned packages, unsigned nodes, unsigned cores, unsigned threads, unsigned vfs, unsigned ranks) {
  PlanInput input = two_socket_input(0);
  Inventory& inventory = input.inventory;
  inventory = {};
  inventory.host = "n2";
  Topology& topology = inventory.topology;
  unsigned cpu = 0;
  Pool pool = input.policy.pools.front();
  pool.parents = {"*"};
  pool.addresses = {};
  for (unsigned package = 0; package < packages; ++package) {
    CpuSet all;
    for (unsigned node = 0; node < nodes; ++node) {
      CpuSet cpus;
      for (unsigned core = 0; core < cores; ++core, cpu += threads) {
        topology.cores.push_back(CpuSet::range(cpu, cpu + threads - 1));
        cpus |= topology.cores.back();
      }
      const unsigned number = package * nodes + node;
      topology.numa_nodes.push_back({number, cpus});
      all |= cpus;
      NetDevice nic;
      nic.name = "eth" + std::to_string(number);
      nic.link = LinkState::up;
      nic.speed_mbps = 200000;
      nic.pci = PciAddress{0, static_cast<std::uint8_t>(number + 1), 0, 0};
      nic.numa_node = number;
      nic.local_cpus = cpus;
      inventory.physical_functions.push_back({*nic.pci, nic.name, vfs, vfs});
      for (unsigned index = 0; index < vfs; ++index) {
        VirtualFunction vf;
        vf.pci =
            PciAddress{0, nic.pci->bus, static_cast<std::uint8_t>(1 + index / 8), static_cast<std::uint8_t>(index % 8)};
        vf.pf = *nic.pci;
        vf.index = index;
        vf.driver = "mlx5_core";
        vf.netdev = nic.name + "v" + std::to_string(index);
        vf.numa_node = number;
        vf.local_cpus = cpus;
        inventory.virtual_functions.push_back(vf);
      }
      inventory.net_devices.push_back(nic);
    }
    topology.packages.push_back(all);
    topology.cpus |= all;
  }
  input.policy.pools = {pool};
  for (unsigned rank = 0; rank < ranks; ++rank) input.ranks.push_back({rank, topology.cpus});
  return input;
}

}  // namespace

TEST_CASE("A drawing has every CPU, every device and a line for every rank", "[plan_svg]") {
  PlanInput input = two_socket_input(6);
  input.inventory.held = {{"0000:3b:02.3", true, true, "job 4711.0 (alice)", "", 4711},
                          {"0000:af:02.3", true, false, "", "a process would not die", 0}};
  const std::string svg = draw(input);
  auto counts = check_boxes(svg);
  CHECK(counts["cpu-group"] == 32);
  CHECK(counts["core-group"] == 16);
  CHECK(counts["device-group"] == 8);
  CHECK(counts["taken"] == 6);
  CHECK(counts["held"] == 1 + 1);  // and the legend
  CHECK(counts["unusable"] == 1 + 1);
  CHECK(counts["line-group"] == 6);
  for (unsigned rank = 0; rank < 6; ++rank)
    CHECK_THAT(svg, ContainsSubstring("<title>rank " + std::to_string(rank) + ": CPUs "));
  CHECK_THAT(svg, ContainsSubstring("memory only: 8"));
  CHECK_THAT(svg, ContainsSubstring("Not taken: 0000:3b:02.3, leased by job 4711.0 (alice)."));
}

TEST_CASE("Remote lines differ from local ones by more than colour", "[plan_svg]") {
  PlanInput input = two_socket_input(0);
  for (unsigned rank = 0; rank < 6; ++rank) input.ranks.push_back({rank, CpuSet::range(rank, rank)});
  auto counts = check_boxes(draw(input));
  CHECK(counts["line local"] == 4 + 1);  // and the legend
  CHECK(counts["line remote"] == 2 + 1);
}

TEST_CASE("No box lies over another on machines of any size", "[plan_svg]") {
  struct Size {
    unsigned packages, nodes, cores, threads, vfs, ranks;
  };
  for (const Size& s :
       {Size{1, 1, 2, 1, 2, 2}, Size{1, 1, 4, 2, 1, 1}, Size{2, 1, 8, 2, 8, 16}, Size{2, 4, 8, 1, 8, 64},
        Size{1, 2, 10, 8, 16, 20}, Size{24, 1, 8, 2, 8, 192}, Size{2, 1, 96, 2, 100, 192}, Size{1, 1, 68, 4, 70, 68}}) {
    INFO(s.packages << " packages, " << s.cores << " cores per NUMA node, " << s.ranks << " ranks");
    const PlanInput input = grid(s.packages, s.nodes, s.cores, s.threads, s.vfs, s.ranks);
    const std::string svg = draw(input);
    auto counts = check_boxes(svg);
    CHECK(counts["cpu-group"] == std::size_t{s.packages} * s.nodes * s.cores * s.threads);
    CHECK(counts["line-group"] == s.ranks);
    CHECK(draw(input) == svg);
  }
}

TEST_CASE("Lines cross no CPU and no lane of another rank", "[plan_svg]") {
  const PlanInput input = grid(2, 2, 24, 2, 32, 96);
  const Drawing drawing = make_drawing(input.inventory, {}, make_plan(input));
  std::vector<Box> cores;
  for (const DrawnPackage& package : drawing.packages)
    for (const DrawnNumaNode& node : package.numa_nodes)
      for (const DrawnCore& core : node.cores) cores.push_back(core.box);
  REQUIRE(drawing.lines.size() == 96);
  for (const DrawnLine& line : drawing.lines) {
    const Box down{line.start_x, line.start_y, 1, line.lane_y - line.start_y + 1};
    const Box lane{line.start_x, line.lane_y, line.edge_x - line.start_x, 1};
    CHECK(std::none_of(cores.begin(), cores.end(), [&](const Box& core) { return overlap(core, down); }));
    CHECK(std::none_of(cores.begin(), cores.end(), [&](const Box& core) { return overlap(core, lane); }));
    for (const DrawnLine& other : drawing.lines) {
      if (other.rank == line.rank) continue;
      CHECK(line.lane_y != other.lane_y);
      CHECK_FALSE(overlap({other.start_x, other.lane_y, other.edge_x - other.start_x, 1}, down));
    }
  }
}

TEST_CASE("Names from outside stay text", "[plan_svg]") {
  PlanInput input = two_socket_input(2);
  input.policy.pools.front().addresses = {};
  input.inventory.host = "<script>alert(\"1\")</script>&\x1b[2J\xff";
  const std::string svg = draw(input);
  check_boxes(svg);
  CHECK(svg.find("<script") == std::string::npos);
  CHECK_THAT(svg, ContainsSubstring("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;\\x1b[2J\\xff"));
  CHECK(std::none_of(svg.begin(), svg.end(), [](char c) { return c >= 0 && c < ' ' && c != '\n'; }));
}

TEST_CASE("Ranks that share a device or have none are drawn too", "[plan_svg]") {
  PlanInput shared = two_socket_input(8);
  shared.request.pool = "slow";
  shared.request.share = true;
  const std::string svg = draw(shared);
  CHECK(check_boxes(svg)["line-group"] == 8);
  CHECK_THAT(svg, ContainsSubstring("eth0.mv0, ranks 0-1"));
  PlanInput host = two_socket_input(3);
  host.request.net = NetScope::host;
  const std::string alone = draw(host);
  CHECK(check_boxes(alone)["line-group"] == 0);
  CHECK_THAT(alone, ContainsSubstring("3 ranks in the host's network"));
}

TEST_CASE("Golden: the drawing in the documentation", "[plan_svg][golden]") {
  PlanInput input = two_socket_input(0);
  input.inventory.topology.packages = {input.inventory.topology.numa_nodes[0].cpus,
                                       input.inventory.topology.numa_nodes[1].cpus};
  input.inventory.held = {{"0000:3b:02.1", true, true, "job 4711.0 (alice)", "", 4711},
                          {"0000:af:02.3", true, false, "", "a process would not die", 0}};
  for (const char* cpus : {"0-1,16-17", "2-3,18-19", "4-5,20-21", "6-7,22-23", "8-10,24-26"})
    input.ranks.push_back({static_cast<unsigned>(input.ranks.size()), *parse_cpu_list(cpus)});
  const std::string svg = draw(input);
  const std::string path = std::string(BERTH_SOURCE_DIR) + "/docs/plan-example.svg";
  if (std::getenv("BERTH_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << svg;
  std::ifstream file(path);
  std::stringstream expected;
  expected << file.rdbuf();
  CHECK(svg == expected.str());
}

TEST_CASE("GPUs and NICs below one bridge are drawn in one box", "[plan_svg]") {
  const PlanInput input = two_socket_input(2);
  const auto function = [](const std::string& address, bool gpu, std::vector<std::string> bridges) {
    PciFunction one;
    one.address = address;
    one.has_gpu = gpu;
    one.local_cpus = *parse_cpu_list("0-7,16-23");
    one.location.bridges = std::move(bridges);
    one.location.host_bridge = "host";
    return one;
  };
  const std::vector<PciFunction> functions = {function("0000:3b:00.0", false, {"down1", "up", "port"}),
                                              function("0000:3c:00.0", true, {"down2", "up", "port"}),
                                              function("0000:3d:00.0", true, {"other"})};
  const std::string svg = make_plan_svg(input.inventory, functions, make_plan(input));
  auto counts = check_boxes(svg);
  CHECK(counts["pci-root"] == 1);
  CHECK(counts["pci-bridge"] == 1);
  CHECK(counts["gpu"] == 2);
  CHECK(counts["nic"] == 2);
  CHECK(svg.find("GPU 0000:3c:00.0") < svg.find("GPU 0000:3d:00.0"));
}
