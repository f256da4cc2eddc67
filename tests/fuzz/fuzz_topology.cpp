// Topologies in XML: whatever the text, parse_hwloc_xml() returns or throws Error, and what it returns can be planned
// with.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "launcher/core/error.hpp"
#include "launcher/core/hwloc_xml.hpp"
#include "launcher/core/placement_problem.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  berth::HwlocMachine machine;
  try {
    machine = berth::parse_hwloc_xml(std::string_view(reinterpret_cast<const char*>(data), size), "x.xml");
  } catch (const berth::Error& error) {
    if (error.code != berth::ErrorCode::host || !error.why.starts_with("x.xml:")) std::abort();
    return 0;
  }
  berth::NamedProblem named = berth::make_problem(machine, berth::NetworkKind::pci, 1, 3);
  named.problem.shortage = berth::Shortage::some;
  const auto placement = berth::choose_placement(named.problem);
  for (const berth::PlacementChoice& choice : placement->choices)
    if (choice.cpus.empty() || !choice.cpus.is_subset_of(machine.topology.cpus)) std::abort();
  return 0;
}
