#include "launcher/broker/step.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <syslog.h>
#include <unistd.h>

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "launcher/broker/node_inventory.hpp"
#include "launcher/broker/node_topology.hpp"
#include "launcher/broker/slurm_job.hpp"
#include "launcher/broker/step_socket.hpp"
#include "launcher/image/parked_images.hpp"
#include "launcher/image/rootfs.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/cgroup.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/user_database.hpp"

namespace berth {

namespace {

/// A killed process is gone at once, unless it hangs in the kernel; its sockets then have their berths rebuilt.
constexpr int kRelayPatienceMilliseconds = 1000;

/// A launcher starts its ranks together. Where some of them are not Berth's (`mpirun -n 1 berth run A : -n 1 B`), the
/// others go on without them after this time without a new one.
constexpr int kGatheringPatienceSeconds = 5;

}  // namespace

Step::Step(UniqueFd control, UniqueFd listener, StepOptions options)
    : options_(std::move(options)),
      control_(std::move(control)),
      listener_(std::move(listener)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      directory_(directory_of(listener_)),
      journal_(options_.state_directory),
      phase_start_(std::chrono::steady_clock::now()) {
  if (!epoll_) throw system_error(errno, "cannot start the broker", "epoll_create1");
}

void Step::watch(int fd, Source source, std::size_t index) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = (static_cast<std::uint64_t>(source) << 32) | index;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    throw system_error(errno, "cannot watch a process of the step", "epoll_ctl");
}

void Step::run() {
  auto first = receive_message(control_.get());
  if (!first) return;
  record_ = parse_step_record(first->body);
  for (const unsigned rank : record_.ranks) ranks_.emplace_back().rank = rank;
  try {
    services_ = leave_step_cgroup();
    services_fd_ = open_cgroup_to_join(services_);
  } catch (const Error& error) {
    syslog(LOG_WARNING, "%s: %s", name().c_str(), error.render().c_str());
  }
  watch(control_.get(), Source::control);
  watch(listener_.get(), Source::listener);
  // Before anything is read or locked: the relay's copy of this process should be small and hold nothing.
  if (takes_devices()) {
    relay_ = start_relay({record_.uid, record_.gid, record_.groups}, services_fd_.get());
    watch(relay_.control.get(), Source::relay);
  }
  if (record_.awaited_ranks > 0) await_ranks();
  try {
    prepare();
  } catch (const Error& error) {
    failure_ = error;
  }
  if (patience_) launcher_ ? restart_patience() : end_gathering();
  while (!over_ || !all_dead()) {
    epoll_event events[64];
    const int n = epoll_wait(epoll_.get(), events, 64, -1);
    if (n < 0 && errno != EINTR) throw system_error(errno, "cannot watch the step", "epoll_wait");
    for (int i = 0; i < n; ++i) handle(static_cast<Source>(events[i].data.u64 >> 32), events[i].data.u64 & 0xffffffffU);
    release_finished(false);
    // mpirun tells nobody when a run is over.
    if (record_.awaited_ranks > 0 && !patience_ && all_dead()) over_ = true;
  }
  end_relay();
  release_finished(true);
  remove_services();
  if (record_.request.stats && record_.awaited_ranks > 0) say_figures();
  if (record_.awaited_ranks == 0) remove_step_directory(directory_);
}

// Not by closing its socket: the relay is the user's, who can stop it, and then it would hold its sockets for ever.
void Step::end_relay() {
  if (!relay_.pidfd) return;
  pidfd_send_signal(relay_.pidfd.get(), SIGKILL, nullptr, 0);
  pollfd ended{relay_.pidfd.get(), POLLIN, 0};
  while (poll(&ended, 1, kRelayPatienceMilliseconds) < 0 && errno == EINTR) continue;
}

/// The last processes of the group are the relay, and squashfuse, which ends with the step's mounts.
void Step::remove_services() {
  rootfs_.reset();
  try {
    remove_cgroup(services_);
  } catch (const Error& error) {
    syslog(LOG_WARNING, "%s: %s", name().c_str(), error.render().c_str());
  }
}

void Step::handle(Source source, std::size_t index) {
  switch (source) {
    case Source::control:
      return on_control();
    case Source::listener:
      return on_listener();
    case Source::relay:
      return on_relay();
    case Source::connection:
      return on_connection(index);
    case Source::pidfd:
      return on_pidfd(index);
    case Source::changes: {
      char events[4096];  // what changed does not matter: the next plan looks at everything
      while (read(changes_.get(), events, sizeof events) > 0) continue;
      return decide();
    }
    case Source::deadline:
      return decide();
    case Source::patience:
    case Source::launcher:
      return end_gathering();
  }
}

void Step::end_phase(const char* name) {
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double, std::milli> elapsed = now - phase_start_;
  phase_start_ = now;
  phases_ += fmt::format("{}{} {:.2f}", phases_.empty() ? "" : ", ", name, elapsed.count());
}

// What can be done before the ranks exist, while slurmstepd makes its cgroups and forks them.
void Step::prepare() {
  phase_start_ = std::chrono::steady_clock::now();
  policy_ = read_policy_file(options_.policy_path);
  if (record_.job == 0 && record_.uid != 0 && !policy_.run_outside_jobs)
    throw Error(ErrorCode::policy, "cannot give you a device",
                fmt::format("you have no Slurm job on {}, and {} does not allow devices without one", record_.node,
                            options_.policy_path),
                "start it in a job (salloc, sbatch), or ask the administrator for `outside_jobs = true` in [run]");
  const auto mentions = [this](auto list) {
    return std::ranges::any_of(policy_.allow, [list](const AllowRule& rule) { return !(rule.*list).empty(); });
  };
  const User user = read_user(record_.uid);
  home_ = user.home;
  caller_ = {.uid = record_.uid, .gid = record_.gid, .user = user.name, .groups = {}, .account = {}};
  // All of this may ask a server: only where the policy wants to know.
  if (mentions(&AllowRule::groups))
    caller_.groups = read_group_names(all_groups({record_.uid, record_.gid, record_.groups}));
  const Request& request = record_.request;
  const bool may_use_gres = takes_devices() && std::ranges::any_of(policy_.pools, [&](const Pool& pool) {
                              return !pool.gres.empty() && (request.pool.empty() || request.pool == pool.name);
                            });
  if (mentions(&AllowRule::accounts) || may_use_gres) {
    SlurmJob job;  // outside of jobs: no account, no generic resources
    if (record_.job != 0) job = read_slurm_job(record_.job, record_.node, record_.slurm_conf);
    caller_.account = std::move(job.account);
    gres_ = std::move(job.gres);
  }
  end_phase("policy");
  inventory_.host = record_.node;
  if (takes_devices()) inventory_ = read_devices(journal_, "/", record_.node);
  inventory_.topology = read_node_topology(journal_);
  end_phase("inventory");
  if (request.onload) onload_ = read_onload(policy_, *request.onload, request.image != kNoImage);
  if (record_.request.image.starts_with('/')) mount();
}

void Step::mount() {
  const Credentials user{record_.uid, record_.gid, record_.groups};
  image_ = open_image(record_.request.image, working_directory_, user, policy_.images);
  image_mount_ = clone_parked_image(options_.state_directory, *image_);
  if (!image_mount_) image_mount_ = mount_image(*image_, user, services_fd_.get());
  end_phase("image");
}

// What needs a rank's process: Slurm has put it into the job's working directory, and made the PMIx directories. The
// others are still on their way.
void Step::prepare_rootfs(int first_rank) {
  phase_start_ = std::chrono::steady_clock::now();
  const UniqueFd directory(open(fmt::format("/proc/{}/cwd", first_rank).c_str(), O_PATH | O_CLOEXEC));
  if (!directory) throw system_error(errno, "cannot tell the job's working directory", "open");
  working_directory_ = read_path(directory.get());
  if (record_.request.image == kNoImage) return;
  if (!image_) mount();
  MountPolicy mounts = policy_.mounts;
  if (onload_) mounts.always.insert(mounts.always.end(), onload_->mounts.begin(), onload_->mounts.end());
  rootfs_ = build_rootfs({.image = &*image_,
                          .image_mount = &image_mount_,
                          .user = {record_.uid, record_.gid, record_.groups},
                          .user_name = caller_.user,
                          .home = home_,
                          .working_directory = working_directory_,
                          .mounts = record_.request.mounts,
                          .runtime_directories = record_.runtime_directories,
                          .session_directories = record_.session_directories,
                          .policy = &mounts,
                          .shared = !takes_devices(),
                          .devices = onload_ ? onload_->devices : std::vector<DeviceNode>{}});
  image_mount_.reset();
  end_phase("rootfs");
}

void Step::on_control() {
  auto message = receive_message(control_.get());
  if (!message && record_.awaited_ranks > 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, control_.get(), nullptr);
    return control_.reset();
  }
  if (!message) {  // the step is over, or slurmstepd died: either way nobody but us looks after its ranks now
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, control_.get(), nullptr);
    over_ = true;
    kill_ranks();
    return;
  }
  if (message->body.contains("report")) return answer_report();
  RankRecord record = parse_rank_record(message->body);
  const std::size_t index = record.local_rank;
  ranks_.at(index).planned = index;
  announce(index, std::move(record));
  if (std::ranges::all_of(ranks_, [](const Rank& r) { return r.record.pid != 0; })) {
    phase_start_ = std::chrono::steady_clock::now();
    decide();
  }
}

/// The process of a rank is known.
void Step::announce(std::size_t index, RankRecord record) {
  Rank& rank = ranks_[index];
  rank.pidfd = UniqueFd(pidfd_open(record.pid, 0));
  rank.record = std::move(record);
  if (rank.pidfd) {
    watch(rank.pidfd.get(), Source::pidfd, index);
  } else {
    rank.dead = true;
  }
  if (failure_ || !working_directory_.empty()) return;
  try {
    prepare_rootfs(rank.record.pid);
  } catch (const Error& error) {
    failure_ = error;
  }
}

/// A rank that announces itself; ranks are numbered as they come. nullopt: its number is another's already.
std::optional<std::size_t> Step::adopt_rank(const nlohmann::json& hello, int pid) {
  const auto local_rank = hello.value("local_rank", 0U);
  if (std::ranges::any_of(ranks_, [=](const Rank& rank) { return rank.record.local_rank == local_rank; }))
    return std::nullopt;
  ranks_.emplace_back().rank = hello.value("rank", 0U);
  announce(ranks_.size() - 1, {local_rank, pid, read_affinity(pid)});
  return ranks_.size() - 1;
}

/// Until all have come, none comes for a while, or the launcher is gone, which would have started them.
void Step::await_ranks() {
  patience_ = UniqueFd(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC));
  if (!patience_) throw system_error(errno, "cannot wait for the ranks", "timerfd_create");
  watch(patience_.get(), Source::patience);
  launcher_ = UniqueFd(pidfd_open(record_.launcher_pid, 0));
  if (launcher_) watch(launcher_.get(), Source::launcher);
}

void Step::restart_patience() {
  itimerspec when{};
  when.it_value.tv_sec = kGatheringPatienceSeconds;
  timerfd_settime(patience_.get(), 0, &when, nullptr);
}

/// All ranks are here, or nobody comes any more: those who come later find no socket, and start a broker of their own.
void Step::end_gathering() {
  if (!patience_) return;
  remove_step_directory(directory_);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
  listener_.reset();
  patience_.reset();
  launcher_.reset();
  std::vector<std::size_t> order(ranks_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [this](std::size_t index) { return ranks_[index].record.local_rank; });
  for (std::size_t position = 0; position < order.size(); ++position) ranks_[order[position]].planned = position;
  // A launcher takes a rank for running as long as somebody has its standard error.
  for (Rank& rank : ranks_)
    if (UniqueFd voice = std::move(rank.voice); rank.planned == 0) voice_ = std::move(voice);
  phase_start_ = std::chrono::steady_clock::now();
  if (!ranks_.empty()) decide();
}

void Step::on_listener() {
  UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0) return;
  auto hello = receive_message(connection.get());
  if (!hello) return;
  auto index = hello->body.value("local_rank", static_cast<std::size_t>(-1));
  if (patience_) {
    const auto adopted = adopt_rank(hello->body, peer.pid);
    if (!adopted)
      return send_message(connection.get(),
                          to_json_value(Error(ErrorCode::usage, fmt::format("cannot be local rank {}", index),
                                              "another process of this run is it already",
                                              "start each rank by mpirun itself, and `berth run` once in each")));
    index = *adopted;
    restart_patience();
  }
  if (index >= ranks_.size() || ranks_[index].connection) return;
  Rank& rank = ranks_[index];
  rank.connection = std::move(connection);
  if (patience_ && record_.request.stats && hello->fds.size() == 1) rank.voice = std::move(hello->fds.front());
  watch(rank.connection.get(), Source::connection, index);
  if (patience_ && ranks_.size() == record_.awaited_ranks) return end_gathering();
  if (plan_ || failure_) return answer(rank);
  say_waiting();
}

void Step::on_relay() {
  auto message = receive_message(relay_.control.get());
  if (message) {
    const auto berth = message->body.value("closed", static_cast<std::size_t>(-1));
    if (berth < berths_.size()) berths_[berth].sockets_closed = true;
    return;
  }
  // Without the relay the ranks cannot reach their PMIx server, and nobody would end them if this process died.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, relay_.control.get(), nullptr);
  for (auto& berth : berths_) berth.sockets_closed = true;
  if (!over_) syslog(LOG_WARNING, "%s: the relay ended; its ranks are killed", name().c_str());
  kill_ranks();
}

void Step::on_connection(std::size_t index) {
  Rank& rank = ranks_[index];
  auto message = receive_message(rank.connection.get());
  if (message) {
    rank.entered = message->body.value("entered", false);
    return admit_ranks();
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, rank.connection.get(), nullptr);
  rank.connection.reset();
  // A rank that failed on its way in would leave the others waiting for it in MPI_Init. It is on its way out itself,
  // and so are all where the whole step was refused: killing those would only cut off their message.
  if (!rank.entered && !failure_) kill_ranks(index);
  if (!failure_ || patience_) return;
  for (Rank& other : ranks_)
    if (other.connection) answer(other);
}

void Step::on_pidfd(std::size_t index) {
  Rank& rank = ranks_[index];
  rank.dead = true;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, rank.pidfd.get(), nullptr);
}

void Step::kill_ranks(std::optional<std::size_t> spared) {
  for (std::size_t i = 0; i < ranks_.size(); ++i)
    if (i != spared && ranks_[i].pidfd && !ranks_[i].dead)
      pidfd_send_signal(ranks_[i].pidfd.get(), SIGKILL, nullptr, 0);
}

bool Step::all_dead() const {
  return std::ranges::all_of(ranks_, [](const Rank& rank) { return rank.record.pid == 0 || rank.dead; });
}

}  // namespace berth
