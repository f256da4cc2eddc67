#include "launcher/core/launch_context.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

using Environment = std::map<std::string, std::string>;

struct Launcher {
  const char* name;
  const char* rank;
  const char* local_rank;
  const char* local_size;  // srun: per node, "4(x2),1"
};

constexpr std::array kLaunchers = {
    Launcher{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    Launcher{"mpiexec", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    Launcher{"mpiexec", "PALS_RANKID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"},
};

std::string value_of(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? std::string() : found->second;
}

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

unsigned required_number(const Environment& environment, const char* name, const char* launcher) {
  const std::string text = value_of(environment, name);
  if (const auto number = parse_number(text)) return *number;
  throw Error(ErrorCode::usage, fmt::format("cannot tell which rank of {} this is", launcher),
              text.empty() ? fmt::format("{} is not set", name) : fmt::format("{}='{}' is not a number", name, text),
              fmt::format("start it directly by {}, which sets the variable", launcher));
}

/// "4(x2),1" and the position of the node in the list.
std::optional<unsigned> tasks_on_node(std::string_view text, unsigned node) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, end);
    unsigned nodes = 1;
    if (const auto times = item.find("(x"); times != std::string_view::npos && item.ends_with(')')) {
      const auto count = parse_number(item.substr(times + 2, item.size() - times - 3));
      if (!count) return std::nullopt;
      nodes = *count;
      item = item.substr(0, times);
    }
    if (node < nodes) return parse_number(item);
    node -= nodes;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::nullopt;
}

std::optional<LaunchContext> parse_srun(const Environment& environment) {
  const auto local_rank = parse_number(value_of(environment, "SLURM_LOCALID"));
  const auto rank = parse_number(value_of(environment, "SLURM_PROCID"));
  const auto node = parse_number(value_of(environment, "SLURM_NODEID"));
  const auto size = tasks_on_node(value_of(environment, "SLURM_STEP_TASKS_PER_NODE"), node.value_or(0));
  // A batch script and a shell of salloc have Slurm's variables, too, but are no step of srun's.
  const auto step = parse_number(value_of(environment, "SLURM_STEP_ID"));
  if (!step || !local_rank || !rank || !size) return std::nullopt;
  return LaunchContext{.launcher = "srun",
                       .rank = *rank,
                       .local_rank = *local_rank,
                       .local_size = *size,
                       .run = fmt::format("{}.{}", value_of(environment, "SLURM_JOB_ID"), *step),
                       .pmix_uri = {},
                       .pmi_fd = {}};
}

LaunchContext parse_launcher(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    if (!environment.contains(launcher.local_rank)) continue;
    LaunchContext context;
    context.launcher = launcher.name;
    context.rank = required_number(environment, launcher.rank, launcher.name);
    context.local_rank = required_number(environment, launcher.local_rank, launcher.name);
    context.local_size = required_number(environment, launcher.local_size, launcher.name);
    context.run = value_of(environment, "PMIX_NAMESPACE");
    return context;
  }
  if (environment.contains("PRTE_LAUNCHED")) {  // and, in a job, srun's variables, of its daemon
    LaunchContext context;                      // it does not say which rank of its node this is: each is planned alone
    context.rank = required_number(environment, "PMIX_RANK", "prterun");
    return context;
  }
  return parse_srun(environment).value_or(LaunchContext{});
}

}  // namespace

std::string find_pmix_server(const Environment& environment) {
  // One name per version of PMIx that the server speaks, as PMIX_SERVER_URI41, all with the same port. Names of older
  // ones may come from a server further out, as where srun starts mpirun: clients take the newest, which sorts last.
  constexpr std::string_view kPrefix = "PMIX_SERVER_URI";
  std::string uri;
  for (auto variable = environment.lower_bound(std::string(kPrefix));
       variable != environment.end() && variable->first.starts_with(kPrefix); ++variable)
    uri = variable->second;
  return uri;
}

LaunchContext parse_launch_context(const Environment& environment) {
  LaunchContext context = parse_launcher(environment);
  if (context.local_size == 0 || context.local_size > kMostLocalRanks || context.local_rank >= context.local_size)
    throw Error(ErrorCode::usage, fmt::format("cannot tell which rank of {} this is", context.launcher),
                fmt::format("it says local rank {} of {}", context.local_rank, context.local_size),
                fmt::format("start it directly by {}; Berth plans for up to {} ranks on a node", context.launcher,
                            kMostLocalRanks));
  context.pmix_uri = find_pmix_server(environment);
  if (context.launcher == "mpiexec") context.pmi_fd = value_of(environment, "PMI_FD");
  return context;
}

}  // namespace berth
