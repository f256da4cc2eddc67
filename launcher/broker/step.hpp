// One step on one node, from the launcher's record to the last released berth. This is what the broker process runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/onload.hpp"
#include "launcher/broker/protocol.hpp"
#include "launcher/broker/rank_cgroups.hpp"
#include "launcher/broker/relay.hpp"
#include "launcher/core/berth_counters.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/image/image.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

struct StepOptions {
  std::string policy_path;
  std::string state_directory;
};

class Step {
 public:
  /// `control` leads to the launcher (EOF: the step is over), `listener` is where the ranks connect; the broker removes
  /// its directory at the end, because the launcher may be dead by then.
  Step(UniqueFd control, UniqueFd listener, StepOptions options);

  /// Serves the step until it is over and every berth is released. Errors reach the user through the ranks; what they
  /// cannot be told goes to syslog.
  void run();

 private:
  struct Rank {
    unsigned rank = 0;
    std::size_t planned = 0;  // position in NodePlan::ranks
    RankRecord record;        // pid 0: not forked yet
    UniqueFd pidfd;
    UniqueFd connection;  // from connect() to exec
    UniqueFd voice;       // its standard error, until it is known whose is used
    bool answered = false;
    bool entered = false;
    bool dead = false;
    std::optional<std::size_t> berth;
  };
  struct TakenBerth {
    std::optional<HeldBerth> held;  // empty: released
    std::optional<RdmaGrant> rdma;
    std::string irqs = {};                       // which were steered where
    bool sockets_closed = false;                 // by the relay
    std::optional<BerthCounters> baseline = {};  // with Request::stats; empty: not read, or read for the last time
    std::optional<BerthFigures> figures = {};    // with Request::stats
  };
  enum class Source : std::uint64_t {
    control,
    listener,
    relay,
    changes,
    deadline,
    patience,
    launcher,
    connection,
    pidfd
  };

  /// Else its ranks share the host's network and one root file system, and there is no relay.
  [[nodiscard]] bool takes_devices() const { return record_.request.net != NetScope::host; }
  void watch(int fd, Source source, std::size_t index = 0);
  void end_relay();
  void remove_services();
  void handle(Source source, std::size_t index);
  void prepare();
  void mount();
  void prepare_rootfs(int first_rank);
  void on_control();
  void announce(std::size_t index, RankRecord record);
  std::optional<std::size_t> adopt_rank(const nlohmann::json& hello, int pid);
  void await_ranks();
  void restart_patience();
  void end_gathering();
  void on_listener();
  void on_relay();
  void on_connection(std::size_t index);
  void on_pidfd(std::size_t index);

  void decide();
  void await_devices(const Error& busy);
  void say_waiting();
  bool worth_waiting();
  [[nodiscard]] LeaseOwner make_owner() const;
  [[nodiscard]] std::string name() const { return step_name(record_.job, record_.step, record_.launcher_pid); }
  void take(const NodePlan& plan, std::vector<Claim> claims);
  void admit_ranks();
  void answer(Rank& rank);
  void refuse(Rank& rank);
  [[nodiscard]] Grant make_grant(const Rank& rank) const;
  [[nodiscard]] std::size_t joined_berth(std::size_t berth) const;
  void kill_ranks(std::optional<std::size_t> spared = std::nullopt);
  void release_finished(bool kill_leftovers);
  [[nodiscard]] bool all_dead() const;
  void read_baselines();
  void read_last_figures(const std::vector<std::size_t>& berths);
  std::string report_figures();
  void answer_report();
  void say_figures();
  void end_phase(const char* name);

  StepOptions options_;
  UniqueFd control_;
  UniqueFd listener_;
  UniqueFd epoll_;
  UniqueFd changes_;   // inotify on the lock directory, while devices are awaited
  UniqueFd deadline_;  // timerfd, likewise
  UniqueFd patience_;  // timerfd, while ranks are awaited that announce themselves
  UniqueFd launcher_;  // pidfd, likewise
  std::string directory_;
  std::string services_;  // cgroup of the relay and of squashfuse; "": the broker's
  UniqueFd services_fd_;
  RelayProcess relay_;

  Journal journal_;
  StepRecord record_;
  Caller caller_;
  std::string home_;
  std::string working_directory_;
  std::optional<std::vector<GresGrant>> gres_;
  Policy policy_;
  Inventory inventory_;           // without the leases, which only count under the node lock
  std::optional<Onload> onload_;  // empty: not asked for
  std::optional<OpenImage> image_;
  UniqueFd image_mount_;  // until it is part of rootfs_
  UniqueFd rootfs_;
  std::string waiting_;  // what the user is to hear while devices are awaited; "": nothing, or said already
  std::optional<NodePlan> plan_;
  std::optional<Error> failure_;
  std::vector<Rank> ranks_;
  std::vector<TakenBerth> berths_;
  RankCgroups cgroups_;
  UniqueFd voice_;            // standard error of the first rank of `berth run`, with Request::stats
  double figures_since_ = 0;  // seconds since 1970
  std::string phases_;        // "policy 0.2, inventory 1.1, …" in milliseconds, for --rdma-verbose
  std::chrono::steady_clock::time_point phase_start_;
  bool admitted_ = false;
  bool refused_ = false;  // one rank has been told so
  bool over_ = false;
};

}  // namespace berth
