#include "launcher/system/topology.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <hwloc.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>

#include "launcher/core/hwloc_xml.hpp"
#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr const char* kCannotRead = "cannot read the node's topology";

using HwlocTopology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

/// While it lives, getenv() finds nothing but what keeps hwloc from loading plugins, which is decided when its first
/// topology is made: drivers of GPUs have no business in a root process, and leak in any. Other HWLOC_… variables could
/// give root another machine (HWLOC_XMLFILE), or libraries of somebody's choice (HWLOC_PLUGINS_PATH).
class HwlocEnvironment {
 public:
  HwlocEnvironment() : caller_(environ) { environ = own_.data(); }
  HwlocEnvironment(const HwlocEnvironment&) = delete;
  HwlocEnvironment& operator=(const HwlocEnvironment&) = delete;
  ~HwlocEnvironment() { environ = caller_; }

 private:
  char** caller_;
  std::string no_plugins_ = "HWLOC_PLUGINS_PATH=/nonexistent";
  std::array<char*, 2> own_{no_plugins_.data(), nullptr};
};

/// Not loaded yet; a filter is in force from here on.
HwlocTopology make_hwloc_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) {
    const int error = errno;
    throw system_error(error, kCannotRead, "hwloc_topology_init");
  }
  HwlocTopology owner(topology, &hwloc_topology_destroy);
  // Where they are no plugins but built in; what is not there at all is refused, which does no harm.
  for (const char* gpus : {"cuda", "gl", "levelzero", "nvml", "opencl", "rsmi"})
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, gpus);
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

void load(hwloc_topology_t topology) {
  if (hwloc_topology_load(topology) == 0) return;
  const int error = errno;
  throw system_error(error, kCannotRead, "hwloc_topology_load");
}

std::string export_xml(hwloc_topology_t topology) {
  char* buffer = nullptr;
  int size = 0;
  if (hwloc_topology_export_xmlbuffer(topology, &buffer, &size, 0) != 0) {
    const int error = errno;
    throw system_error(error, kCannotRead, "hwloc_topology_export_xmlbuffer");
  }
  std::string xml(buffer, static_cast<std::size_t>(size) - 1);  // it counts the terminating NUL
  hwloc_free_xmlbuffer(topology, buffer);
  return xml;
}

}  // namespace

Topology read_topology() {
  const HwlocEnvironment environment;
  const HwlocTopology owner = make_hwloc_topology();
  apply_planning_filters(owner.get());
  load(owner.get());
  return parse_topology_xml(export_xml(owner.get()), "hwloc");
}

Topology parse_topology_xml(const std::string& xml, const std::string& source) {
  Topology topology = parse_hwloc_xml(xml, source).topology;
  topology.allowed = {};  // what restricted the process that looked is no concern of the ranks
  return topology;
}

Topology read_topology_file(const std::string& path) {
  constexpr std::size_t kLargest = std::size_t{64} << 20U;
  return parse_topology_xml(read_file(AT_FDCWD, path, kLargest), path);
}

std::string read_topology_xml() {
  const HwlocEnvironment environment;
  const HwlocTopology owner = make_hwloc_topology();
  hwloc_topology_set_io_types_filter(owner.get(), HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  load(owner.get());
  return export_xml(owner.get());
}

}  // namespace berth
