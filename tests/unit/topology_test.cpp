#include "launcher/system/topology.hpp"

#include <link.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>

#include "launcher/core/error.hpp"
#include "launcher/core/xml_text.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/user_database.hpp"
#include "tests/unit/temporary_directory.hpp"

using namespace berth;

TEST_CASE("This machine has cores, and they cover what this process may use", "[topology]") {
  const Topology topology = read_topology();
  CpuSet cores;
  for (const CpuSet& core : topology.cores) cores |= core;
  CHECK(cores == topology.cpus);
  CHECK(read_affinity().is_subset_of(topology.cpus));
  CHECK_FALSE(topology.numa_nodes.empty());
}

TEST_CASE("Variables of hwloc show no other machine, and stay as they are", "[topology]") {
  const TemporaryDirectory tree;
  const Topology live = read_topology();
  REQUIRE(setenv("HWLOC_SYNTHETIC", "package:3 core:5 pu:2", 1) == 0);
  REQUIRE(setenv("HWLOC_PLUGINS_PATH", tree.path("").c_str(), 1) == 0);
  CHECK(read_topology() == live);
  CHECK(parse_topology_xml(read_topology_xml(), "live.xml") == live);
  CHECK(std::string(getenv("HWLOC_SYNTHETIC")) == "package:3 core:5 pu:2");
  unsetenv("HWLOC_SYNTHETIC");
  unsetenv("HWLOC_PLUGINS_PATH");
}

TEST_CASE("hwloc loads no plugins", "[topology]") {
  const auto count_loaded = [] {
    unsigned long long loaded = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* count) {
          *static_cast<unsigned long long*>(count) = info->dlpi_adds;
          return 1;
        },
        &loaded);
    return loaded;
  };
  const auto before = count_loaded();
  read_topology_xml();
  CHECK(count_loaded() == before);
}

TEST_CASE("A file that is no topology is refused", "[topology]") {
  const TemporaryDirectory tree;
  tree.file("node.xml", "not XML");
  tree.file("page.xml", "<html/>");
  CHECK_THROWS_AS(read_topology_file(tree.path("page.xml")), Error);
  CHECK_THROWS_AS(read_topology_file(tree.path("node.xml")), Error);
  CHECK_THROWS_AS(read_topology_file(tree.path("missing.xml")), Error);
}

TEST_CASE("This machine reads the same from its own XML, shortened for sharing", "[topology]") {
  const std::string xml = read_topology_xml();
  const Topology live = read_topology();
  CHECK(parse_topology_xml(xml, "live.xml") == live);
  CHECK(parse_topology_xml(make_shareable_topology(xml, "live.xml"), "live.xml") == live);
}

TEST_CASE("Affinity can be narrowed and restored, and never silently less than asked for", "[affinity]") {
  const CpuSet before = read_affinity();
  const CpuSet one = CpuSet::range(*before.first(), *before.first());
  apply_affinity(one);
  CHECK(read_affinity() == one);
  CHECK_THROWS_AS(apply_affinity(one | CpuSet::range(4000, 4000)), Error);
  CHECK_THROWS_AS(apply_affinity(CpuSet::range(4000, 4000)), Error);
  CHECK_THROWS_AS(apply_affinity({}), Error);
  apply_affinity(before);
  CHECK(read_affinity() == before);
}

TEST_CASE("Memory policy takes nodes that exist only", "[affinity]") {
  apply_memory_nodes(CpuSet::range(0, 0));
  CHECK_THROWS_AS(apply_memory_nodes(CpuSet::range(900, 900)), Error);
  apply_memory_nodes({});
}

TEST_CASE("Users are found by number", "[user_database]") {
  const User root = read_user(0);
  CHECK(root.name == "root");
  CHECK(root.gid == 0);
  CHECK(read_group_names({0, 4000000000U}) == std::vector<std::string>{"root", "4000000000"});
  CHECK_THROWS_AS(read_user(4000000000U), Error);
}
