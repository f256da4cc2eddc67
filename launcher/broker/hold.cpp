#include "launcher/broker/hold.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/irq_steering.hpp"
#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/node_topology.hpp"
#include "launcher/broker/protocol.hpp"
#include "launcher/broker/rank_cgroups.hpp"
#include "launcher/broker/rdma_device.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

/// Who runs a rootful container is root: nobody else can talk to its runtime.
const Caller kRoot{.uid = 0, .gid = 0, .user = "root", .groups = {"root"}, .account = {}};

/// The pool of the request: the one that it names, the first that has the device that it names, or the first.
std::string choose_pool_name(const HoldRecord& record, const Policy& policy, const Inventory& inventory) {
  if (!record.pool.empty() || record.device.empty()) return record.pool;
  for (const Pool& pool : policy.pools) {
    Request request;
    request.pool = pool.name;
    try {
      choose_pool(policy, kRoot, request);
      for (const Candidate& candidate : make_candidates(pool, inventory))
        if (is_named(candidate, record.device)) return pool.name;
    } catch (const Error&) {
      continue;  // not for root, or not for this node: the next one may be
    }
  }
  throw Error(ErrorCode::policy, fmt::format("no device '{}'", record.device),
              fmt::format("no pool of {} that root may use has it", policy.source),
              "`berth devices -v` lists the devices of all pools");
}

std::string cannot_give(const HoldRecord& record) {
  return fmt::format("cannot give container '{}' a device", short_container_id(record.container));
}

/// The refusal in the words of somebody who starts a container, not a job step.
Error for_container(const HoldRecord& record, const Error& error) {
  if (error.code == ErrorCode::usage || error.code == ErrorCode::internal) return error;
  const std::string reason = error.why.empty() ? error.what() : fmt::format("{}: {}", error.what(), error.why);
  const bool is_for_srun = error.fix.find("--rdma-") != std::string::npos;
  std::string fix = is_for_srun ? "use another pool: --annotation berth.pool=NAME" : error.fix;
  if (error.code == ErrorCode::busy) fix = "wait until one is free, or use another pool: --annotation berth.pool=NAME";
  return {error.code, cannot_give(record), reason, std::move(fix)};
}

class Hold {
 public:
  Hold(HoldRecord record, const UniqueFd& netns, const std::string& state_directory)
      : record_(std::move(record)), netns_(netns), journal_(state_directory) {}

  /// Plans and takes the device, or throws and leaves nothing.
  HoldGrant take(const std::string& policy_path) {
    const Policy policy = read_policy_file(policy_path);
    PlanInput input{.request = {},
                    .policy = policy,
                    .inventory = read_devices(journal_, "/", record_.node),
                    .caller = kRoot,
                    .ranks = {}};
    input.inventory.topology = read_node_topology(journal_);
    input.request.pool = choose_pool_name(record_, policy, input.inventory);
    input.device = record_.device;
    input.ranks = {{0, record_.cpus}};
    std::optional<Lock> node = journal_.lock_node();
    read_held(journal_, policy, input.inventory);
    const NodePlan plan = make_plan(input);
    BerthSpec spec = plan.berths.front();
    if (spec.kind == PoolKind::host)
      throw Error(ErrorCode::usage, cannot_give(record_),
                  fmt::format("pool \"{}\" shares RDMA devices in the host's network, and has none to move", spec.pool),
                  "use a pool of another kind, or --network=host and --device");
    if (!record_.interface.empty()) spec.interface = record_.interface;
    const LeaseOwner owner{.uid = 0,
                           .user = kRoot.user,
                           .ranks = {},
                           .broker = {getpid(), read_start_time(getpid())},
                           .processes = {record_.pid},
                           .container = record_.container};
    Claim mine = std::move(claim(journal_, {spec}, &owner).front());
    node.reset();
    berth_ = place(journal_, std::move(mine), netns_, owner);
    if (policy.irqs == IrqSteering::near)
      steer_irqs(journal_, berth_->record, input.inventory.topology, plan.ranks.front().cpus);
    HoldGrant grant{spec.id, std::nullopt};
    if (spec.rdma.mode == RdmaMode::off) return grant;
    grant.rdma = make_rdma_grant(berth_->record, berth_->netns);
    cgroups_.apply({{record_.pid, "container." + record_.container, &spec.rdma, {&*grant.rdma}}});
    return grant;
  }

  void give_back() {
    if (!berth_) return;
    const std::string action = release(journal_, std::move(*berth_));
    berth_.reset();
    if (action != "brought home") syslog(LOG_WARNING, "container %s: %s", record_.container.c_str(), action.c_str());
  }

  [[nodiscard]] const HoldRecord& record() const { return record_; }

 private:
  HoldRecord record_;
  const UniqueFd& netns_;
  Journal journal_;
  std::optional<HeldBerth> berth_;
  RankCgroups cgroups_;
};

void answer(const UniqueFd& control, const nlohmann::json& body) {
  try {
    send_message(control.get(), body);
  } catch (const Error&) {
    // The hook has died. Then the runtime ends the container, which is what this process waits for.
  }
}

}  // namespace

nlohmann::json to_json_value(const HoldRecord& record) {
  return {{"container", record.container}, {"node", record.node},     {"pid", record.pid},
          {"pool", record.pool},           {"device", record.device}, {"interface", record.interface},
          {"cpus", to_string(record.cpus)}};
}

HoldRecord parse_hold_record(const nlohmann::json& object) {
  return {.container = object.at("container").get<std::string>(),
          .node = object.at("node").get<std::string>(),
          .pid = object.at("pid").get<int>(),
          .pool = object.at("pool").get<std::string>(),
          .device = object.at("device").get<std::string>(),
          .interface = object.at("interface").get<std::string>(),
          .cpus = parse_cpu_list(object.at("cpus").get<std::string>()).value()};
}

nlohmann::json to_json_value(const HoldGrant& grant) {
  return {{"device", grant.device}, {"rdma", grant.rdma ? to_json_value(*grant.rdma) : nlohmann::json()}};
}

HoldGrant parse_hold_grant(const nlohmann::json& object) {
  HoldGrant grant{object.at("device").get<std::string>(), std::nullopt};
  if (!object.at("rdma").is_null()) grant.rdma = parse_rdma_grant(object["rdma"]);
  return grant;
}

void hold_for_container(UniqueFd control, const std::string& policy_path, const std::string& state_directory) {
  const auto message = receive_message(control.get());
  if (!message || message->fds.size() != 2) return;
  const UniqueFd& process = message->fds[0];
  Hold hold(parse_hold_record(message->body), message->fds[1], state_directory);
  try {
    answer(control, to_json_value(hold.take(policy_path)));
  } catch (const Error& error) {
    hold.give_back();
    return answer(control, to_json_value(for_container(hold.record(), error)));
  }
  control.reset();
  pollfd ended{process.get(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
  hold.give_back();
}

}  // namespace berth
