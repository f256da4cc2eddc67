#include "launcher/system/topology.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>

#include "launcher/core/xml_text.hpp"
#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr const char* kCannotRead = "cannot read the node's topology";

using HwlocTopology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

/// Not loaded yet; a filter is in force from here on.
HwlocTopology make_hwloc_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) {
    const int error = errno;
    throw system_error(error, kCannotRead, "hwloc_topology_init");
  }
  HwlocTopology owner(topology, &hwloc_topology_destroy);
  // The broker runs in the job's cgroup: the plan needs the whole node and intersects with the masks itself.
  hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  return owner;
}

/// Devices come from sysfs; caches are not planned with. Not looking for them is what makes loading cheap.
void apply_planning_filters(hwloc_topology_t topology) {
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
}

CpuSet make_cpu_set(hwloc_const_bitmap_t bitmap) {
  CpuSet cpus;
  for (int cpu = hwloc_bitmap_first(bitmap); cpu >= 0 && static_cast<unsigned>(cpu) <= kMaxCpu;
       cpu = hwloc_bitmap_next(bitmap, cpu)) {
    cpus.add(static_cast<unsigned>(cpu));
  }
  return cpus;
}

void load(hwloc_topology_t topology, const std::string& what) {
  if (hwloc_topology_load(topology) == 0) return;
  const int error = errno;
  throw system_error(error, what, "hwloc_topology_load");
}

Topology make_topology(hwloc_topology_t hwloc) {
  Topology topology;
  topology.cpus = make_cpu_set(hwloc_topology_get_topology_cpuset(hwloc));
  for (hwloc_obj_t core = nullptr; (core = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_CORE, core)) != nullptr;) {
    topology.cores.push_back(make_cpu_set(core->cpuset));
  }
  for (hwloc_obj_t package = nullptr;
       (package = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_PACKAGE, package)) != nullptr;) {
    topology.packages.push_back(make_cpu_set(package->cpuset));
  }
  for (hwloc_obj_t node = nullptr; (node = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    topology.numa_nodes.push_back({node->os_index, make_cpu_set(node->cpuset)});
  }
  std::sort(topology.numa_nodes.begin(), topology.numa_nodes.end(),
            [](const NumaNode& a, const NumaNode& b) { return a.os_index < b.os_index; });
  return topology;
}

}  // namespace

Topology read_topology() {
  const HwlocTopology owner = make_hwloc_topology();
  apply_planning_filters(owner.get());
  load(owner.get(), kCannotRead);
  return make_topology(owner.get());
}

Topology parse_topology_xml(const std::string& xml, const std::string& source) {
  const std::string what = fmt::format("cannot read the topology in '{}'", source);
  parse_xml(xml, source, what);
  const HwlocTopology owner = make_hwloc_topology();
  apply_planning_filters(owner.get());
  if (hwloc_topology_set_xmlbuffer(owner.get(), xml.c_str(), static_cast<int>(xml.size() + 1)) != 0) {
    throw Error(ErrorCode::host, what, "hwloc does not recognise it as a topology",
                "make the file with `lstopo FILE.xml`");
  }
  load(owner.get(), what);
  return make_topology(owner.get());
}

Topology read_topology_file(const std::string& path) {
  constexpr std::size_t kLargest = std::size_t{64} << 20U;
  return parse_topology_xml(read_file(AT_FDCWD, path, kLargest), path);
}

std::string read_topology_xml() {
  const HwlocTopology owner = make_hwloc_topology();
  hwloc_topology_set_io_types_filter(owner.get(), HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  load(owner.get(), kCannotRead);
  char* buffer = nullptr;
  int size = 0;
  if (hwloc_topology_export_xmlbuffer(owner.get(), &buffer, &size, 0) != 0) {
    const int error = errno;
    throw system_error(error, kCannotRead, "hwloc_topology_export_xmlbuffer");
  }
  std::string xml(buffer, static_cast<std::size_t>(size) - 1);  // it counts the terminating NUL
  hwloc_free_xmlbuffer(owner.get(), buffer);
  return xml;
}

}  // namespace berth
