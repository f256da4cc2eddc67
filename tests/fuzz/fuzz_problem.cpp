// Placement problems in JSON: whatever the text, parse_problem() returns or throws Error, and what it returns is
// solved.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "launcher/core/error.hpp"
#include "launcher/core/placement_problem.hpp"

namespace {

constexpr std::string_view kMachine = R"(<topology version="2.0">
<object type="Machine" cpuset="0xf">
<object type="Package" cpuset="0x3"><object type="NUMANode" os_index="0" cpuset="0x3"/>
<object type="Core" cpuset="0x1"/><object type="Core" cpuset="0x2"/>
<object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0200 [8086:1572]"/></object>
<object type="Package" cpuset="0xc"><object type="NUMANode" os_index="1" cpuset="0xc"/>
<object type="Core" cpuset="0x4"/><object type="Core" cpuset="0x8"/>
<object type="PCIDev" pci_busid="0000:02:00.0" pci_type="0200 [8086:1572]"/></object>
</object></topology>)";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const berth::HwlocMachine machine = berth::parse_hwloc_xml(kMachine, "x.xml");
  berth::NamedProblem named;
  try {
    const auto document =
        berth::parse_problem_file(std::string_view(reinterpret_cast<const char*>(data), size), "p.json");
    berth::problem_topology(document, "p.json");
    named = berth::parse_problem(document, "p.json", machine);
  } catch (const berth::Error& error) {
    if (error.code != berth::ErrorCode::host || !error.why.starts_with("p.json")) std::abort();
    return 0;
  }
  if (named.problem.ranks.size() > 40 || named.problem.devices.size() > 40) return 0;
  const auto placement = berth::choose_placement(named.problem);
  for (std::size_t rank = 0; rank < placement->choices.size(); ++rank) {
    const berth::PlacementChoice& choice = placement->choices[rank];
    if (choice.cpus.empty() || !choice.cpus.is_subset_of(named.problem.ranks[rank].allowed_cpus)) std::abort();
  }
  berth::to_json_value(named, *placement).dump();
  return 0;
}
