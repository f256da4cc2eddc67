// berth-slurm-job JOB NODE: asks slurmctld for the account of a job and its generic resources and CPUs on one node, and
// prints them as a JSON object. A program of its own, so that the broker is not tied to one version of Slurm's library.
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

int fail(const std::string& why) {
  std::cerr << "berth-slurm-job: " << why << '\n';
  return 1;
}

/// What the job has on `node`; gres_detail_str has one text for each node, in the order of `nodes`.
std::string gres_on(const job_info_t& job, const char* node) {
  hostlist_t hosts = slurm_hostlist_create(job.nodes);
  if (hosts == nullptr) return {};
  const int position = slurm_hostlist_find(hosts, node);
  slurm_hostlist_destroy(hosts);
  if (position < 0 || static_cast<std::uint32_t>(position) >= job.gres_detail_cnt) return {};
  const char* text = job.gres_detail_str[position];
  return text == nullptr ? "" : text;
}

/// The CPUs that the job has on `node`, as Slurm numbers them; "" if it has none there, or no longer.
std::string cpus_on(const job_info_t& job, const char* node) {
  std::array<char, 65536> cpus{};  // "0,2,4,…" of all that a node can have
  if (job.job_resrcs == nullptr ||
      slurm_job_cpus_allocated_str_on_node(cpus.data(), cpus.size(), job.job_resrcs, node) != SLURM_SUCCESS)
    return {};
  return cpus.data();
}

/// Hardware threads of each core of `node` that Slurm counts; 0: it does not know the node.
unsigned threads_of(const char* node) {
  node_info_msg_t* nodes = nullptr;
  std::string name = node;
  if (slurm_load_node_single(&nodes, name.data(), SHOW_DETAIL) != SLURM_SUCCESS) return 0;
  const unsigned threads = nodes->record_count == 0 ? 0 : nodes->node_array[0].threads;
  slurm_free_node_info_msg(nodes);
  return threads;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fail("usage: berth-slurm-job JOB NODE");
  const auto id = static_cast<std::uint32_t>(std::strtoul(argv[1], nullptr, 10));
  slurm_init(nullptr);
  job_info_msg_t* jobs = nullptr;
  if (slurm_load_job(&jobs, id, SHOW_DETAIL) != SLURM_SUCCESS) return fail(slurm_strerror(slurm_get_errno()));
  // The answer may hold a whole job array or heterogeneous job.
  for (std::uint32_t i = 0; i < jobs->record_count; ++i) {
    const job_info_t& job = jobs->job_array[i];
    if (job.job_id != id) continue;
    const nlohmann::json answer = {{"account", job.account == nullptr ? "" : job.account},
                                   {"gres", gres_on(job, argv[2])},
                                   {"cpus", cpus_on(job, argv[2])},
                                   {"threads_per_core", threads_of(argv[2])}};
    std::cout << answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return std::cout.flush() ? 0 : 1;
  }
  return fail("slurmctld does not know the job");
}
