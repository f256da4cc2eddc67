#include "launcher/core/plan.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/broker/onload.hpp"
#include "launcher/broker/slurm_job.hpp"
#include "launcher/cli/node.hpp"
#include "launcher/cli/plan_file.hpp"
#include "launcher/cli/table.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/core/plan_svg.hpp"
#include "launcher/core/slurm_cpus.hpp"
#include "launcher/system/topology.hpp"

namespace berth {
namespace {

struct PlanOptions {
  Request request;
  std::string image;
  std::optional<unsigned> ranks;
  std::vector<std::string> cpu_masks;
  std::string topology_path;
  std::string node_path;
  std::string gres;
  std::string svg_path;
  std::uint32_t job = 0;
  PlanFileOptions file;
  ReasonOptions reasons;
};

std::vector<CpuSet> parse_masks(const std::vector<std::string>& texts) {
  std::vector<CpuSet> masks;
  for (const std::string& text : texts) {
    for (std::size_t start = 0; start <= text.size();) {
      const std::size_t end = std::min(text.find(';', start), text.size());
      const std::string list = text.substr(start, end - start);
      const auto mask = parse_cpu_list(list);
      if (!mask || mask->empty()) {
        throw Error(ErrorCode::usage, fmt::format("cannot use '--cpu-mask={}'", text),
                    fmt::format("'{}' is not a list of CPUs", list), "write --cpu-mask='0-3;4-7': one list per rank");
      }
      masks.push_back(*mask);
      start = end + 1;
    }
  }
  return masks;
}

/// What each rank may use: the masks as given, one mask for all, or what this process may use itself.
std::vector<LocalRank> make_ranks(const PlanOptions& options, const CpuSet& own) {
  std::vector<CpuSet> masks = parse_masks(options.cpu_masks);
  const std::size_t count = options.ranks.value_or(static_cast<unsigned>(std::max<std::size_t>(masks.size(), 1)));
  if (masks.empty()) masks.push_back(own);
  if (masks.size() == 1) masks.resize(count, masks.front());
  if (masks.size() != count) {
    throw Error(ErrorCode::usage, fmt::format("cannot plan {} ranks", count),
                fmt::format("--cpu-mask gives {} lists of CPUs", masks.size()), "give one list, or one per rank");
  }
  std::vector<LocalRank> ranks;
  for (const CpuSet& mask : masks) ranks.push_back({static_cast<unsigned>(ranks.size()), mask});
  return ranks;
}

/// What Slurm says of --slurm-job, where the command line does not say it itself.
void ask_slurm(const PlanOptions& options, PlanInput& input, CpuSet& cpus) {
  if (options.job == 0 || !options.cpu_masks.empty()) return;
  const char* slurm_conf = std::getenv("SLURM_CONF");
  const SlurmJob job = [&] {
    try {
      return read_slurm_job(options.job, input.inventory.host, slurm_conf == nullptr ? "" : slurm_conf);
    } catch (Error& error) {
      error.fix = "give the CPUs of its ranks by --cpu-mask (and --gres); then Slurm is not asked";
      throw;
    }
  }();
  if (job.cpus.empty())
    throw Error(ErrorCode::usage, fmt::format("cannot plan for job {}", options.job),
                fmt::format("Slurm gives it no CPU on {}", input.inventory.host),
                "name the node of a job that runs there: --node-name, or --node FILE");
  cpus = choose_linux_cpus(input.inventory.topology, job.cpus, job.threads_per_core);
  input.caller.account = job.account;
  if (options.gres.empty()) input.gres = job.gres;
}

enum class Rejections { none, not_free, all };

void print_plan(const NodePlan& plan, Rejections shown) {
  Table table({"RANK", "DEVICE", "INTERFACE", "ADDRESS", "CPUS", "NUMA", "WHY"});
  for (const RankPlan& rank : plan.ranks) {
    std::vector<std::string> row{std::to_string(rank.rank),
                                 "",
                                 "",
                                 "",
                                 to_string(rank.cpus),
                                 rank.numa_node ? std::to_string(*rank.numa_node) : "",
                                 rank.reason};
    for (const std::size_t position : berths_of(plan, rank)) {
      const BerthSpec& berth = plan.berths[position];
      if (position != *rank.berth) table.add(std::exchange(row, std::vector<std::string>(row.size())));
      row[1] = berth.id;
      row[2] = berth.interface;
      row[3] = berth.addresses.empty() ? "" : to_string(berth.addresses.front());
    }
    table.add(std::move(row));
  }
  fmt::print("{}", table.render());
  Table rejected({"NOT TAKEN", "WHY"});
  for (const Rejection& rejection : plan.rejected) {
    const bool is_free = rejection.reason.starts_with("free");
    if (shown == Rejections::all || (shown == Rejections::not_free && !is_free))
      rejected.add({rejection.device_id, rejection.reason});
  }
  if (!rejected.empty()) fmt::print("\n{}", rejected.render());
}

void show_plan(PlanOptions plan_options, const GlobalOptions& options) {
  if (plan_options.file.is_given()) {
    return show_file_plan(plan_options.file, plan_options.ranks, parse_masks(plan_options.cpu_masks),
                          plan_options.reasons, plan_options.svg_path, options.json);
  }
  Request& request = plan_options.request;
  if (!plan_options.image.empty()) {
    if (!request.image.empty() && request.image != plan_options.image) {
      throw Error(ErrorCode::usage, "cannot plan for two images",
                  fmt::format("--container names '{}', the argument '{}'", request.image, plan_options.image),
                  "give one of them");
    }
    apply_option(request, "container", plan_options.image);
  }
  ShownNode node = read_shown_node(plan_options.node_path, options, !plan_options.svg_path.empty());
  if (!plan_options.topology_path.empty()) {
    node.inventory.topology = read_topology_file(plan_options.topology_path);
    node.cpus = node.inventory.topology.cpus;
  }
  PlanInput input;
  input.request = request;
  input.policy = require_policy(node, plan_options.node_path);
  input.inventory = std::move(node.inventory);
  input.caller = std::move(node.caller);
  input.job = plan_options.job;
  ask_slurm(plan_options, input, node.cpus);
  input.ranks = make_ranks(plan_options, node.cpus);
  if (!plan_options.gres.empty()) input.gres = parse_gres(plan_options.gres);
  if (request.onload && plan_options.node_path.empty())
    read_onload(input.policy, *request.onload, request.image != kNoImage);
  const SolvedPlan solved = solve_plan(input);
  const NodePlan& plan = solved.plan;
  if (!plan_options.svg_path.empty())
    write_output(plan_options.svg_path, make_plan_svg(input.inventory, node.functions, plan));
  if (plan_options.svg_path == "-") return;
  if (options.json) {
    nlohmann::json answer = to_json_value(plan);
    add_reasons(plan_options.reasons, solved.problem, solved.devices, solved.placement, answer);
    return print_json(answer.dump(2));
  }
  print_plan(plan, options.verbose                ? Rejections::all
                   : plan_options.reasons.explain ? Rejections::not_free
                                                  : Rejections::none);
  print_reasons(plan_options.reasons, solved.problem, solved.devices, solved.placement);
}

}  // namespace

void add_plan_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("plan", "Show what the ranks of a step would get on this node, and why.");
  const auto plan = std::make_shared<PlanOptions>();
  verb->add_option("IMAGE", plan->image, "image of the ranks; a plan does not open it");
  verb->add_option("-n,--ranks,--ntasks", plan->ranks, "number of ranks on this node (default: 1, or one per CPU list)")
      ->type_name("N")
      ->check(CLI::Range(1U, 65536U));
  verb->add_option("--cpu-mask", plan->cpu_masks,
                   "CPUs of each rank, \"0-3;4-7\" (default: each may use what this process may use)")
      ->type_name("LIST")
      ->type_size(1)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_option("--topology", plan->topology_path, "hwloc XML file to plan for, instead of this machine")
      ->type_name("FILE");
  add_node_option(app, *verb, plan->node_path);
  verb->add_option(
          "--gres", plan->gres,
          "what Slurm gave the job here, as `scontrol --details show job` prints it: \"vf:2(IDX:0-1)\" (default: "
          "no job)")
      ->type_name("TEXT");
  verb->add_option("--svg", plan->svg_path,
                   "draw the node and the plan to this file (-: standard output, nothing else)")
      ->type_name("FILE");
  add_plan_file_options(*verb, plan->file);
  add_reason_options(*verb, plan->reasons);
  verb->add_option(
          "--slurm-job", plan->job,
          "plan a step of this job: on the CPUs and with the generic resources that Slurm gave it here (unless "
          "--cpu-mask says which); what its other steps hold counts as its own")
      ->type_name("ID");
  add_request_options(
      *verb, [plan](const std::string& name, const std::string& value) { apply_option(plan->request, name, value); });
  verb->footer(
      "Examples:\n"
      "  berth plan -n 8 app.sqsh                    eight ranks that Slurm does not bind\n"
      "  berth plan --cpu-mask='0-3;4-7' -v          two bound ranks, and why other devices were not taken\n"
      "  berth plan -n 8 --pool=slow --share --json  for scripts\n"
      "  berth plan -n 2 --slurm-job 4711            two ranks on the CPUs that job 4711 has on this node\n"
      "  berth plan -n 8 --node n1.json              on the node that `berth capture n1.json` saw\n"
      "  berth plan -n 8 --xml n1.xml --vfs 16       on a machine that `lstopo n1.xml` described\n"
      "  berth plan --problem p.json --json          the best answer to a placement problem\n"
      "  berth plan -n 8 --explain --compare         what other choices would cost, and what other launchers do\n"
      "  berth plan -n 8 --svg plan.svg              a drawing of the node and the plan\n"
      "Nothing is changed: `berth plan` is a step without its effects.");
  verb->callback([plan, &options] { show_plan(*plan, options); });
}

}  // namespace berth
