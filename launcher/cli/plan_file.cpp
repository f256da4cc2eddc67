#include "launcher/cli/plan_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>

#include "launcher/cli/options.hpp"
#include "launcher/cli/table.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/placement_problem.hpp"
#include "launcher/core/problem_svg.hpp"
#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestFile = std::size_t{64} << 20U;  // bytes

HwlocMachine read_machine(const std::string& path) {
  return parse_hwloc_xml(read_file(AT_FDCWD, path, kLargestFile), path);
}

struct MachineProblem {
  HwlocMachine machine;
  NamedProblem named;
};

MachineProblem read_problem(const PlanFileOptions& options) {
  const auto document =
      parse_problem_file(read_file(AT_FDCWD, options.problem_path, kLargestFile), options.problem_path);
  const std::string xml =
      options.xml_path.empty() ? problem_topology(document, options.problem_path) : options.xml_path;
  HwlocMachine machine = read_machine(xml);
  NamedProblem named = parse_problem(document, options.problem_path, machine);
  return {std::move(machine), std::move(named)};
}

MachineProblem make_problem(const PlanFileOptions& options, std::optional<unsigned> ranks,
                            const std::vector<CpuSet>& masks) {
  const std::size_t count = ranks.value_or(static_cast<unsigned>(std::max<std::size_t>(masks.size(), 1)));
  HwlocMachine machine = read_machine(options.xml_path);
  NamedProblem named = make_problem(machine, NetworkKind::automatic, options.vfs, count);
  if (masks.size() > 1 && masks.size() != count) {
    throw Error(ErrorCode::usage, fmt::format("cannot plan {} ranks", count),
                fmt::format("--cpu-mask gives {} lists of CPUs", masks.size()), "give one list, or one per rank");
  }
  for (std::size_t rank = 0; rank < count && !masks.empty(); ++rank) {
    PlacementRank& placed = named.problem.ranks[rank];
    placed.allowed_cpus = masks[masks.size() == 1 ? 0 : rank] & named.problem.topology.cpus;
    if (placed.allowed_cpus.empty())
      throw Error(ErrorCode::usage, fmt::format("cannot give rank {} a CPU", rank),
                  fmt::format("'{}' has CPUs {}", options.xml_path, to_string(named.problem.topology.cpus)));
  }
  return {std::move(machine), std::move(named)};
}

void print_placement(const NamedProblem& named, const Placement& placement) {
  Table table({"RANK", "DEVICE", "CPUS", "WHY"});
  for (std::size_t rank = 0; rank < placement.choices.size(); ++rank) {
    const PlacementChoice& choice = placement.choices[rank];
    std::string devices;
    for (const std::size_t device : choice.devices) devices += (devices.empty() ? "" : " ") + named.devices[device];
    table.add({std::to_string(rank), devices, to_string(choice.cpus), choice.reason});
  }
  fmt::print("{}", table.render());
}

}  // namespace

void add_plan_file_options(CLI::App& verb, PlanFileOptions& options) {
  verb.add_option("--problem", options.problem_path, "plan for the ranks and devices of a problem in JSON")
      ->type_name("FILE");
  verb.add_option("--xml", options.xml_path, "plan for the network devices of an hwloc XML file; no policy is asked")
      ->type_name("FILE");
  verb.add_option("--vfs", options.vfs, "with --xml: put N VFs in place of each of its network devices")
      ->type_name("N")
      ->check(CLI::Range(1U, 4096U));
  verb.add_option("--order", options.order, "with --xml: what counts first")
      ->check(CLI::IsMember({"locality", "balance"}));
  verb.add_option("--shortage", options.shortage, "with --xml: what to do with fewer devices than ranks")
      ->check(CLI::IsMember({"fail", "share", "some"}));
}

void show_file_plan(const PlanFileOptions& options, std::optional<unsigned> ranks, const std::vector<CpuSet>& masks,
                    const ReasonOptions& reasons, const std::string& svg_path, bool json) {
  const bool has_problem = !options.problem_path.empty();
  if (has_problem && (ranks || !masks.empty() || options.vfs > 0)) {
    throw Error(ErrorCode::usage, "cannot change the problem", "a problem names its ranks, masks and devices itself",
                "leave --ntasks, --cpu-mask and --vfs away, or use --xml");
  }
  auto [machine, named] = has_problem ? read_problem(options) : make_problem(options, ranks, masks);
  if (const auto order = parse_placement_order(options.order)) named.problem.order = *order;
  if (const auto shortage = parse_shortage(options.shortage)) named.problem.shortage = *shortage;
  if (!has_problem && named.devices.empty()) {
    throw Error(ErrorCode::host, fmt::format("cannot plan for '{}'", options.xml_path),
                "it has no network device whose link is up", "write it with its devices: lstopo --whole-io FILE.xml");
  }
  const auto placement = choose_placement(named.problem);
  if (!placement) {
    throw Error(ErrorCode::host, fmt::format("cannot give each of {} ranks a device", named.problem.ranks.size()),
                fmt::format("'{}' has {}", has_problem ? options.problem_path : options.xml_path, named.devices.size()),
                "make more with --vfs, or say --shortage=share or --shortage=some");
  }
  if (!svg_path.empty())
    write_output(
        svg_path,
        make_problem_svg(machine, named, *placement,
                         std::filesystem::path(has_problem ? options.problem_path : options.xml_path).filename()));
  if (svg_path == "-") return;
  if (json) {
    nlohmann::json answer = to_json_value(named, *placement);
    add_reasons(reasons, named.problem, named.devices, *placement, answer);
    return print_json(answer.dump(2));
  }
  print_placement(named, *placement);
  print_reasons(reasons, named.problem, named.devices, *placement);
}

}  // namespace berth
