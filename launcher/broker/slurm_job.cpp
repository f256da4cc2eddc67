#include "launcher/broker/slurm_job.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/core/error.hpp"
#include "launcher/system/program.hpp"

namespace berth {

namespace {

constexpr std::chrono::seconds kPatience{10};

}  // namespace

SlurmJob read_slurm_job(std::uint32_t job, const std::string& node, const std::string& slurm_conf) {
  const std::string program = find_program("berth-slurm-job");
  std::vector<std::string> variables;
  if (!slurm_conf.empty()) variables.push_back("SLURM_CONF=" + slurm_conf);
  const auto text = read_program_output({program, std::to_string(job), node}, variables, kPatience);
  if (text) return parse_slurm_job(*text);
  throw Error(ErrorCode::host, fmt::format("cannot ask Slurm about job {}", job),
              fmt::format("{} failed or did not answer in {} s", program, kPatience.count()),
              "run it by hand on the node; the policy needs it for `accounts` of [[allow]] and `gres` of [[pool]]");
}

SlurmJob parse_slurm_job(const std::string& text) {
  try {
    const auto answer = nlohmann::json::parse(text);
    const auto cpus = parse_cpu_list(answer.at("cpus").get<std::string>());
    if (!cpus)
      throw Error(ErrorCode::host, "cannot understand what Slurm says about the job",
                  fmt::format("'{}' is not a list of CPUs", answer["cpus"].get<std::string>()));
    return {answer.at("account").get<std::string>(), parse_gres(answer.at("gres").get<std::string>()), *cpus,
            answer.at("threads_per_core").get<unsigned>()};
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::host, "cannot understand what Slurm says about the job", error.what(),
                "make sure that all parts of Berth are of the same version");
  }
}

}  // namespace berth
