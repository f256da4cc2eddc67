// The half of Step that plans, takes and gives back devices; step.cpp has the half that watches processes.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "launcher/broker/irq_steering.hpp"
#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/rdma_device.hpp"
#include "launcher/broker/step.hpp"
#include "launcher/core/environment.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

/// How long leftover processes may take to die before their berth is quarantined.
constexpr int kReleasePatienceMilliseconds = 2000;

/// How long a step waits of its own accord for devices that are being given back right now.
constexpr unsigned kReleaseGraceSeconds = 5;

/// Whether its device is about to be free: it is being emptied, it is on its way home, or those who had it have ended.
bool is_ending(const LeaseRecord& record) {
  if (record.phase == Phase::releasing || record.phase == Phase::unparking) return true;
  return record.phase == Phase::leased && record.owner && !record.owner->processes.empty() &&
         std::ranges::all_of(record.owner->processes, has_ended);
}

}  // namespace

/// All ranks are known: plans, takes the devices and answers; called again while devices are awaited.
void Step::decide() {
  if (plan_ || over_) return;
  if (!failure_) {
    try {
      std::optional<Lock> node;
      if (takes_devices()) {
        node = journal_.lock_node();
        read_held(journal_, policy_, inventory_);
      }
      PlanInput input{.request = record_.request,
                      .policy = policy_,
                      .inventory = inventory_,
                      .caller = caller_,
                      .ranks = {},
                      .job = record_.job,
                      .gres = gres_};
      input.ranks.resize(ranks_.size());
      for (const Rank& rank : ranks_) input.ranks[rank.planned] = {rank.rank, rank.record.cpus};
      const NodePlan plan = make_plan(input);
      const LeaseOwner owner = make_owner();
      std::vector<Claim> claims = claim(journal_, plan.berths, &owner);
      node.reset();
      end_phase("plan");
      take(plan, std::move(claims));
      end_phase("berths");
    } catch (const Error& error) {
      if (error.code == ErrorCode::busy && worth_waiting()) return await_devices(error);
      failure_ = error;
    }
  }
  changes_.reset();
  deadline_.reset();
  for (Rank& rank : ranks_)
    if (rank.connection) answer(rank);
}

LeaseOwner Step::make_owner() const {
  return {.job = record_.job,
          .step = record_.step,
          .launcher_pid = record_.launcher_pid,
          .uid = record_.uid,
          .user = caller_.user,
          .ranks = {},
          .broker = {getpid(), read_start_time(getpid())}};
}

/// Parks and leases every berth of the plan, or none.
void Step::take(const NodePlan& plan, std::vector<Claim> claims) {
  std::vector<HeldBerth> held = park(journal_, std::move(claims));
  std::vector<std::optional<RdmaGrant>> rdma(held.size());
  std::vector<std::string> irqs(held.size());
  try {
    std::vector<LeaseOwner> owners(held.size(), make_owner());
    std::vector<CpuSet> cpus(held.size());
    for (std::size_t planned = 0; planned < plan.ranks.size(); ++planned)
      for (const std::size_t berth : berths_of(plan, plan.ranks[planned])) {
        owners[berth].ranks.push_back(plan.ranks[planned].rank);
        owners[berth].processes.push_back(std::ranges::find(ranks_, planned, &Rank::planned)->record.pid);
        cpus[berth] |= plan.ranks[planned].cpus;
      }
    lease(journal_, held, owners);
    for (std::size_t i = 0; i < held.size(); ++i) {
      if (policy_.irqs == IrqSteering::near)
        irqs[i] = steer_irqs(journal_, held[i].record, inventory_.topology, cpus[i]);
      if (held[i].record.berth.rdma.mode != RdmaMode::off) rdma[i] = make_rdma_grant(held[i].record, held[i].netns);
    }
  } catch (...) {
    release(journal_, std::move(held));
    throw;
  }
  for (std::size_t i = 0; i < held.size(); ++i) {
    const bool in_host_network = !held[i].netns;  // where no listener is needed
    berths_.push_back({.held = std::move(held[i]),
                       .rdma = std::move(rdma[i]),
                       .irqs = std::move(irqs[i]),
                       .sockets_closed = in_host_network});
  }
  if (record_.request.stats) read_baselines();
  for (Rank& rank : ranks_) rank.berth = plan.ranks[rank.planned].berth;
  plan_ = plan;
}

/// Rules and limits, once all ranks are in: only then has the launcher put each into its last cgroup. Ranks with an
/// RDMA device wait for this before their exec.
void Step::admit_ranks() {
  std::vector<RankOfDevice> restricted;
  std::vector<int> waiting;
  for (const Rank& rank : ranks_) {
    if (rank.dead || !rank.berth || !berths_[*rank.berth].rdma) continue;
    if (!rank.entered) return;
    restricted.push_back({rank.record.pid, std::to_string(rank.record.pid), &plan_->berths[*rank.berth].rdma, {}});
    for (const std::size_t berth : berths_of(*plan_, plan_->ranks[rank.planned]))
      restricted.back().grants.push_back(&*berths_[berth].rdma);
    if (onload_)
      for (const DeviceNode& device : onload_->devices)
        restricted.back().further_devices.push_back({major(device.number), minor(device.number)});
    if (rank.connection) waiting.push_back(rank.connection.get());
  }
  if (admitted_ || restricted.empty()) return;
  admitted_ = true;
  nlohmann::json answer = {{"admitted", true}};
  try {
    cgroups_.apply(restricted);
  } catch (const Error& error) {
    answer = to_json_value(error);
  }
  for (const int connection : waiting) try {
      send_message(connection, answer);
    } catch (const Error&) {  // it has died meanwhile
    }
}

bool Step::worth_waiting() {
  if (deadline_) {
    itimerspec left{};
    timerfd_gettime(deadline_.get(), &left);
    return left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0;
  }
  if (record_.request.wait_seconds > 0) return true;
  return std::ranges::any_of(journal_.ids(), [this](const std::string& id) {
    const auto record = journal_.read(id);
    return record && is_ending(*record) && journal_.is_locked(id);
  });
}

void Step::await_devices(const Error& busy) {
  if (deadline_) return;  // watching already; this was one more unsuccessful try
  changes_ = UniqueFd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes_ ||
      // Closing a lock is the last thing that a holder does, however it ends.
      inotify_add_watch(changes_.get(), (journal_.state_directory() + "/locks").c_str(), IN_CLOSE_WRITE) < 0)
    throw system_error(errno, "cannot wait for a device", "inotify_add_watch");
  deadline_ = UniqueFd(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC));
  itimerspec when{};
  when.it_value.tv_sec = record_.request.wait_seconds > 0 ? record_.request.wait_seconds : kReleaseGraceSeconds;
  if (!deadline_ || timerfd_settime(deadline_.get(), 0, &when, nullptr) != 0)
    throw system_error(errno, "cannot wait for a device", "timerfd_settime");
  watch(changes_.get(), Source::changes);
  watch(deadline_.get(), Source::deadline);
  if (record_.request.wait_seconds > 0)
    waiting_ = fmt::format("berth: waiting up to {} s: {}", record_.request.wait_seconds, busy.why);
  say_waiting();
}

/// To the user, once, by the first rank, which may come later than its launcher has announced it.
void Step::say_waiting() {
  if (waiting_.empty() || !ranks_.front().connection) return;
  try {
    send_message(ranks_.front().connection.get(), {{"waiting", std::exchange(waiting_, {})}});
  } catch (const Error&) {  // it was killed, which its pidfd says
  }
}

/// mpirun ends all ranks as soon as one has failed: the others must live until the first has said why.
void Step::refuse(Rank& rank) {
  nlohmann::json refusal = to_json_value(*failure_);
  if (record_.awaited_ranks > 0) {
    const auto speaks = [&](const Rank& other) { return &other != &rank && other.answered && other.connection; };
    if (std::ranges::any_of(ranks_, speaks)) {
      rank.answered = false;
      return;
    }
    refusal["heard"] = std::exchange(refused_, true);
  }
  send_message(rank.connection.get(), refusal);
}

void Step::answer(Rank& rank) {
  if (rank.answered || rank.dead) return;
  rank.answered = true;
  try {
    if (failure_) return refuse(rank);
    const Grant grant = make_grant(rank);
    std::vector<int> fds;
    if (grant.has_netns) fds.push_back(berths_[*rank.berth].held->netns.get());
    if (grant.has_rootfs) fds.push_back(rootfs_.get());
    std::pair<UniqueFd, UniqueFd> relay;  // the rank's end, the relay's end
    if (grant.has_relay) {
      relay = make_socket_pair();
      fds.push_back(relay.first.get());
      send_message(relay_.control.get(), {{"berth", *rank.berth}}, {relay.second.get(), rank.pidfd.get()});
    }
    send_message(rank.connection.get(), to_json_value(grant), fds);
  } catch (const Error& error) {
    syslog(LOG_ERR, "%s rank %u: %s", name().c_str(), rank.rank, error.render().c_str());
    kill_ranks();
  }
}

Grant Step::make_grant(const Rank& rank) const {
  const RankPlan& plan = plan_->ranks[rank.planned];
  Grant grant;
  grant.has_netns = rank.berth && berths_[*rank.berth].held->netns;
  grant.has_rootfs = static_cast<bool>(rootfs_);
  grant.has_relay = grant.has_netns;
  grant.shares_rootfs = !takes_devices();
  grant.verbose = record_.request.verbose;
  std::string devices;
  for (const std::size_t position : berths_of(*plan_, plan)) {
    const BerthSpec& berth = plan_->berths[position];
    if (grant.device.empty()) grant.device = berth.id;
    std::vector<std::string> addresses;
    for (const IpPrefix& address : berth.addresses) addresses.push_back(to_string(address));
    devices += fmt::format("{}device {} as {} ({})", devices.empty() ? "" : ", ", berth.id,
                           grant.has_netns ? berth.interface : "the host's network", fmt::join(addresses, ", "));
    if (!berths_[position].irqs.empty()) devices += fmt::format(", {}", berths_[position].irqs);
    const auto& rdma = berths_[position].rdma;
    if (!rdma) continue;
    grant.rdma.push_back(*rdma);
    devices += fmt::format(", RDMA device {}", port_name(*rdma));
  }
  grant.summary = fmt::format("rank {}: {}, CPUs {}: {}", rank.rank, devices.empty() ? "host network" : devices,
                              to_string(plan.cpus), plan.reason);
  if (rank.planned == 0) grant.summary += fmt::format("\nberth: {}: phases in ms: {}", plan_->host, phases_);
  if (plan_->pin != Pin::off) grant.pin_cpus = plan.cpus;
  if (plan_->pin == Pin::cpus_and_memory)
    for (const NumaNode& node : inventory_.topology.numa_nodes)
      if (node.cpus.intersects(plan.cpus)) grant.pin_memory.add(node.os_index);
  grant.working_directory =
      record_.request.working_directory.empty() ? working_directory_ : record_.request.working_directory;
  grant.working_directory_required = !record_.request.working_directory.empty();
  grant.memlock = policy_.memlock;
  grant.environment = make_rank_environment(*plan_, plan, policy_, record_.request, grant.rdma);
  grant.environment.facts.push_back(
      {EnvironmentChange::Action::set, "BERTH_IMAGE", image_ ? image_->path : std::string(kNoImage)});
  if (onload_) grant_onload(grant, *onload_, policy_.onload);
  return grant;
}

/// Whose netns the device of a berth is in.
std::size_t Step::joined_berth(std::size_t berth) const {
  const std::string& owner = netns_owner(plan_->berths[berth]);
  return static_cast<std::size_t>(std::ranges::find(plan_->berths, owner, &BerthSpec::id) - plan_->berths.begin());
}

/// Releases the berths whose ranks are all gone. A rank may have left children behind; as long as the step runs they
/// may finish their work (Slurm ends them with the step), after it they are killed.
void Step::release_finished(bool kill_leftovers) {
  std::vector<std::size_t> finished;
  std::vector<std::uint64_t> inodes;
  for (std::size_t i = 0; i < berths_.size(); ++i) {
    const std::size_t entered = joined_berth(i);
    const bool in_use = std::ranges::any_of(ranks_, [&](const Rank& r) { return r.berth == entered && !r.dead; });
    if (!berths_[i].held || in_use || (!berths_[entered].sockets_closed && !kill_leftovers)) continue;
    finished.push_back(i);
    inodes.push_back(berths_[i].held->record.netns_inode);
  }
  if (finished.empty()) return;
  std::vector<HeldBerth> empty;
  const auto processes =
      kill_leftovers ? std::vector<std::vector<int>>(finished.size()) : read_processes_in_each(inodes);
  std::vector<std::size_t> emptied;
  for (std::size_t k = 0; k < finished.size(); ++k)
    if (processes[k].empty()) emptied.push_back(finished[k]);
  if (record_.request.stats) read_last_figures(emptied);
  for (const std::size_t i : emptied) {
    empty.push_back(std::move(*berths_[i].held));
    berths_[i].held.reset();
  }
  std::vector<std::string> ids;
  for (const HeldBerth& berth : empty) ids.push_back(berth.record.berth.id);
  try {
    const auto actions = release(journal_, std::move(empty), kReleasePatienceMilliseconds, kill_leftovers ? 0 : 1);
    for (std::size_t i = 0; i < actions.size(); ++i)
      if (actions[i].starts_with("quarantined") || actions[i].starts_with("forgotten"))
        syslog(LOG_WARNING, "%s: device %s: %s", name().c_str(), ids[i].c_str(), actions[i].c_str());
  } catch (const Error& error) {
    syslog(LOG_ERR, "%s: %s", name().c_str(), error.render().c_str());
  }
}

}  // namespace berth
