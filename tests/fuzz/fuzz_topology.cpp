// Topologies in XML: whatever the text, parse_topology_xml() returns or throws Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "launcher/core/error.hpp"
#include "launcher/system/topology.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    berth::parse_topology_xml(std::string(reinterpret_cast<const char*>(data), size), "x.xml");
  } catch (const berth::Error& error) {
    if (error.code != berth::ErrorCode::host) std::abort();
  }
  return 0;
}
