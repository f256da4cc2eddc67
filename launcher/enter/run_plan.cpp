#include "launcher/enter/run_plan.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "launcher/broker/journal.hpp"
#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/node_topology.hpp"
#include "launcher/broker/onload.hpp"
#include "launcher/broker/rdma_device.hpp"
#include "launcher/enter/rank_process.hpp"
#include "launcher/image/image.hpp"
#include "launcher/image/rootfs.hpp"
#include "launcher/system/host_name.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/user_database.hpp"
#include "launcher/system/user_namespace.hpp"

namespace berth {

namespace {

constexpr const char* kEnterProgram = BERTH_LIBEXECDIR "/berth-enter";

/// Libraries that would copy from the memory of ranks in other user namespaces, and fail: told not to try.
constexpr std::pair<const char*, const char*> kWithoutCma[] = {
    {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},  // Open MPI 4
    {"OMPI_MCA_smsc", "^cma"},                             // Open MPI 5
    {"UCX_TLS", "^cma"},
};

Policy read_run_policy() {
  Policy policy;
  if (access(kPolicyPath, F_OK) != 0 && errno == ENOENT) {
    policy.source = kPolicyPath;
    policy.images.paths = {"/"};
    policy.mounts.allowed = {"/"};
  } else {
    policy = read_policy_file(kPolicyPath);
  }
  policy.images.kernel_mount = KernelMount::never;
  return policy;
}

std::string value_of(const RunTask& task, const std::string& name) {
  const auto found = task.environment.find(name);
  return found == task.environment.end() ? std::string() : found->second;
}

/// Containers often run under numbers that have no name.
User read_user_of(const RunTask& task) {
  try {
    return read_user(task.user.uid);
  } catch (const Error&) {
    return {.uid = task.user.uid,
            .gid = task.user.gid,
            .name = fmt::format("u{}", task.user.uid),
            .home = value_of(task, "HOME"),
            .shell = {}};
  }
}

Error needs_rights(const RunTask& task, const std::string& wanted) {
  return {
      ErrorCode::policy, fmt::format("cannot give this rank {}", wanted), task.obstacle,
      fmt::format("administrator: chown root {0} && chmod u+s {0} (docs/run.md, \"Installing it\"); inside Slurm, srun "
                  "--rdma-container needs no setuid program; or leave out what asks for it",
                  kEnterProgram)};
}

/// What of the request can be had: a share of an RDMA device, or the host's network. Takes from the policy the pools
/// that cannot. Returns the note for the user.
std::string choose_network(const RunTask& task, const Caller& caller, Request& request, Policy& policy) {
  if (request.net == NetScope::host) return {};
  if (task.net_is_given)
    throw needs_rights(task, request.net == NetScope::rank ? "a network namespace of its own"
                                                           : "a network namespace with the other ranks of the node");
  const bool wants_device = !request.pool.empty() || request.devices > 1 || !request.gpus.empty();
  const auto is_shared = [](const Pool& pool) { return pool.kind == PoolKind::host && pool.gres.empty(); };
  if (!request.pool.empty() && !is_shared(*choose_pool(policy, caller, request).pool))
    throw needs_rights(task, fmt::format("a device from pool \"{}\"", request.pool));
  std::erase_if(policy.pools, [&](const Pool& pool) { return !is_shared(pool); });
  const bool may_have_devices =
      policy.run_outside_jobs || task.user.uid == 0 || !value_of(task, "SLURM_JOB_ID").empty();
  try {
    if (may_have_devices && choose_pool(policy, caller, request).pool != nullptr) return {};
  } catch (const Error&) {  // none that this user may have
  }
  if (wants_device)
    throw needs_rights(
        task, request.pool.empty() ? "devices of its own" : fmt::format("a device from pool \"{}\"", request.pool));
  request.net = NetScope::host;
  return fmt::format(
      "berth: note: the ranks have the host's network and no devices of their own: {}; `berth doctor` says more",
      task.obstacle);
}

std::vector<RdmaGrant> make_rdma_grants(const NodePlan& plan, const RankPlan& rank) {
  std::vector<RdmaGrant> grants;
  for (const std::size_t position : berths_of(plan, rank)) {
    LeaseRecord record;
    record.berth = plan.berths[position];
    read_rdma_device(record.berth, record.original);
    grants.push_back(make_rdma_grant(record, {}));
  }
  return grants;
}

Grant make_grant(const RunTask& task, const PlanInput& input, const NodePlan& plan, const RankPlan& rank,
                 const std::string& working_directory) {
  Grant grant;
  grant.has_rootfs = input.request.image != kNoImage;
  grant.verbose = input.request.verbose;
  grant.rdma = make_rdma_grants(plan, rank);
  std::string devices = "the network of the host";
  for (const RdmaGrant& rdma : grant.rdma) devices += fmt::format(", RDMA device {}", port_name(rdma));
  const std::string reason = grant.rdma.empty() && !task.net_is_given ? task.obstacle : rank.reason;
  grant.summary = fmt::format("rank {}: {}, CPUs {}: {}", rank.rank, devices, to_string(rank.cpus), reason);
  if (plan.pin != Pin::off) grant.pin_cpus = rank.cpus;
  if (plan.pin == Pin::cpus_and_memory)
    for (const NumaNode& node : input.inventory.topology.numa_nodes)
      if (node.cpus.intersects(rank.cpus)) grant.pin_memory.add(node.os_index);
  grant.working_directory_required = !input.request.working_directory.empty();
  grant.working_directory = grant.working_directory_required ? input.request.working_directory
                            : grant.has_rootfs               ? working_directory
                                                             : ".";
  grant.memlock = input.policy.memlock;
  grant.environment = make_rank_environment(plan, rank, input.policy, input.request, grant.rdma);
  return grant;
}

}  // namespace

RunPlan make_run_plan(const RunTask& task, const std::vector<LocalRank>& ranks) {
  const User user = read_user_of(task);
  PlanInput input{.request = task.request,
                  .policy = read_run_policy(),
                  .inventory = {},
                  .caller = {.uid = user.uid,
                             .gid = task.user.gid,
                             .user = user.name,
                             .groups = read_group_names(all_groups(task.user)),
                             .account = value_of(task, "SLURM_JOB_ACCOUNT")},
                  .ranks = ranks};
  RunPlan run;
  run.note = choose_network(task, input.caller, input.request, input.policy);
  const bool in_image = input.request.image != kNoImage;
  std::optional<Onload> onload;
  if (input.request.onload) onload = read_onload(input.policy, *input.request.onload, in_image);
  const Journal journal(kStateDirectory);
  input.inventory.host = read_host_name();
  if (input.request.net != NetScope::host)
    input.inventory = read_node_inventory(journal, "/", input.inventory.host, false);
  input.inventory.topology = read_node_topology(journal);
  const NodePlan plan = make_plan(input);

  std::error_code error;
  const std::string working_directory = std::filesystem::current_path(error).string();
  for (const RankPlan& rank : plan.ranks) run.grants.push_back(make_grant(task, input, plan, rank, working_directory));

  std::string image_path(kNoImage);
  if (in_image) {
    if (onload)
      input.policy.mounts.always.insert(input.policy.mounts.always.end(), onload->mounts.begin(), onload->mounts.end());
    enter_new_user_namespace();
    const Credentials inside = read_credentials();  // without names for groups that the namespace does not know
    const OpenImage image = open_image(input.request.image, working_directory, inside, input.policy.images);
    image_path = image.path;
    run.rootfs = build_rootfs({.image = &image,
                               .user = inside,
                               .user_name = user.name,
                               .home = user.home,
                               .working_directory = working_directory,
                               .mounts = input.request.mounts,
                               .runtime_directories = {},
                               .session_directories = find_session_directories(task.environment),
                               .policy = &input.policy.mounts,
                               .host_trees = true});
  }
  const bool others_are_elsewhere = run.rootfs && ranks.size() < task.context.local_size;
  for (Grant& grant : run.grants) {
    grant.environment.facts.push_back({EnvironmentChange::Action::set, "BERTH_IMAGE", image_path});
    if (onload) grant_onload(grant, *onload, input.policy.onload);
    if (!others_are_elsewhere) continue;
    for (const auto& [name, value] : kWithoutCma)
      grant.environment.defaults.push_back({EnvironmentChange::Action::set, name, value});
  }
  return run;
}

}  // namespace berth
