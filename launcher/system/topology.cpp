#include "launcher/system/topology.hpp"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "launcher/system/fd.hpp"

namespace berth {
namespace {

using HwlocTopology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

HwlocTopology make_hwloc_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) {
    const int error = errno;
    throw system_error(error, "cannot read the node's topology", "hwloc_topology_init");
  }
  HwlocTopology owner(topology, &hwloc_topology_destroy);
  // The broker runs in the job's cgroup: the plan needs the whole node and intersects with the masks itself.
  hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  // Devices come from sysfs; caches are not planned with. Not looking for them is what makes loading cheap.
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  return owner;
}

CpuSet make_cpu_set(hwloc_const_bitmap_t bitmap) {
  CpuSet cpus;
  for (int cpu = hwloc_bitmap_first(bitmap); cpu >= 0 && static_cast<unsigned>(cpu) <= kMaxCpu;
       cpu = hwloc_bitmap_next(bitmap, cpu)) {
    cpus.add(static_cast<unsigned>(cpu));
  }
  return cpus;
}

Topology load(const HwlocTopology& owner, const std::string& what) {
  hwloc_topology_t hwloc = owner.get();
  if (hwloc_topology_load(hwloc) != 0) {
    const int error = errno;
    throw system_error(error, what, "hwloc_topology_load");
  }
  Topology topology;
  topology.cpus = make_cpu_set(hwloc_topology_get_topology_cpuset(hwloc));
  for (hwloc_obj_t core = nullptr; (core = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_CORE, core)) != nullptr;) {
    topology.cores.push_back(make_cpu_set(core->cpuset));
  }
  for (hwloc_obj_t node = nullptr; (node = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    topology.numa_nodes.push_back({node->os_index, make_cpu_set(node->cpuset)});
  }
  std::sort(topology.numa_nodes.begin(), topology.numa_nodes.end(),
            [](const NumaNode& a, const NumaNode& b) { return a.os_index < b.os_index; });
  return topology;
}

}  // namespace

Topology read_topology() { return load(make_hwloc_topology(), "cannot read the node's topology"); }

Topology read_topology_file(const std::string& path) {
  const std::string what = fmt::format("cannot read the topology in '{}'", path);
  const HwlocTopology owner = make_hwloc_topology();
  if (hwloc_topology_set_xml(owner.get(), path.c_str()) != 0) {
    const int error = errno;
    throw system_error(error, what, "hwloc_topology_set_xml", "make the file with `lstopo FILE.xml`");
  }
  return load(owner, what);
}

}  // namespace berth
