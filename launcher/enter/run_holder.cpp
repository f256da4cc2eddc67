#include "launcher/enter/run_holder.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "launcher/broker/protocol.hpp"
#include "launcher/enter/run_plan.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/polling.hpp"

namespace berth {

namespace {

/// As with the broker: where others of the launcher's ranks are not Berth's, these go on without them.
constexpr int kGatheringPatienceMilliseconds = 5000;
/// mpirun ends all ranks when the first has failed; that one needs a moment to say why.
constexpr int kSpeakingPatienceMilliseconds = 2000;
/// Other users may sit on a name; on each of these, nobody does by mistake.
constexpr int kMostNames = 8;
constexpr std::chrono::milliseconds kListeningPatience{1000};

struct WaitingRank {
  unsigned local_rank = 0;
  LocalRank rank;
  UniqueFd connection;
};

UniqueFd make_socket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) throw system_error(errno, "cannot find the other ranks of this run", "socket");
  return fd;
}

struct AbstractName {
  sockaddr_un address{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

AbstractName make_name(std::uint32_t uid, std::uint64_t digest, int number) {
  AbstractName name;
  const std::string text = fmt::format("berth-run-{}-{:016x}-{}", uid, digest, number);
  name.address.sun_family = AF_UNIX;
  std::memcpy(name.address.sun_path + 1, text.data(), text.size());
  name.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return name;
}

bool is_own(const UniqueFd& connection, std::uint32_t uid) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == uid;
}

bool becomes_readable(int fd, int milliseconds) {
  pollfd waiter{fd, POLLIN, 0};
  int ready = 0;
  while ((ready = poll(&waiter, 1, milliseconds)) < 0 && errno == EINTR) continue;
  return ready > 0;
}

std::vector<WaitingRank> gather(UniqueFd listener, const RunTask& task) {
  std::vector<WaitingRank> ranks;
  while (ranks.size() < task.context.local_size && becomes_readable(listener.get(), kGatheringPatienceMilliseconds)) {
    UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection || !is_own(connection, task.user.uid)) continue;
    const auto hello = receive_message(connection.get());
    if (!hello) continue;
    const auto local_rank = hello->body.value("local_rank", 0U);
    if (std::ranges::find(ranks, local_rank, &WaitingRank::local_rank) != ranks.end()) {
      send_message(connection.get(),
                   to_json_value(Error(ErrorCode::usage, fmt::format("cannot be local rank {}", local_rank),
                                       "another process of this run is it already",
                                       "start each rank by mpirun itself, and `berth run` once in each")));
      continue;
    }
    const auto cpus = parse_cpu_list(hello->body.value("cpus", std::string()));
    ranks.push_back({local_rank, {hello->body.value("rank", 0U), cpus.value_or(CpuSet{})}, std::move(connection)});
  }
  std::ranges::sort(ranks, {}, &WaitingRank::local_rank);
  return ranks;
}

void answer(const UniqueFd& connection, const nlohmann::json& body, const std::vector<int>& fds = {}) {
  try {
    send_message(connection.get(), body, fds);
  } catch (const Error&) {  // it has died meanwhile
  }
}

void refuse(const std::vector<WaitingRank>& ranks, const Error& error) {
  nlohmann::json refusal = to_json_value(error);
  for (const WaitingRank& rank : ranks) {
    answer(rank.connection, refusal);
    if (!refusal.contains("heard")) becomes_readable(rank.connection.get(), kSpeakingPatienceMilliseconds);
    refusal["heard"] = true;
  }
}

void serve(UniqueFd listener, const RunTask& task) {
  const std::vector<WaitingRank> ranks = gather(std::move(listener), task);
  if (ranks.empty()) return;
  try {
    std::vector<LocalRank> local_ranks;
    for (const WaitingRank& rank : ranks) local_ranks.push_back(rank.rank);
    const RunPlan plan = make_run_plan(task, local_ranks);
    if (!plan.note.empty()) answer(ranks.front().connection, {{"waiting", plan.note}});
    for (std::size_t i = 0; i < ranks.size(); ++i)
      answer(ranks[i].connection, to_json_value(plan.grants[i]),
             plan.rootfs ? std::vector{plan.rootfs.get()} : std::vector<int>{});
  } catch (const Error& error) {
    refuse(ranks, error);
  }
}

[[noreturn]] void run_holder(int listener, const RunTask& task) {
  setsid();
  prctl(PR_SET_NAME, "berth-holder");
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  apply_widest_affinity();
  // Out of the way first: whoever reads the ranks' output waits until the last copy of its end is closed.
  const int kept = fcntl(listener, F_DUPFD_CLOEXEC, STDERR_FILENO + 2);
  const int null = open("/dev/null", O_RDWR);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) dup2(null, fd);
  if (kept < 0 || dup2(kept, STDERR_FILENO + 1) < 0 || close_range(STDERR_FILENO + 2, ~0U, 0) != 0) _exit(kExitRefused);
  fcntl(STDERR_FILENO + 1, F_SETFD, FD_CLOEXEC);
  try {
    serve(UniqueFd(STDERR_FILENO + 1), task);
  } catch (const std::exception&) {  // the ranks see their connections close
    _exit(kExitRefused);
  }
  _exit(0);
}

/// Twice forked: a launcher that waits for its ranks must not meet another child.
void start_holder(const UniqueFd& listener, const RunTask& task) {
  const pid_t child = fork();
  if (child < 0) throw system_error(errno, "cannot run this rank", "fork", "raise the limit of processes: ulimit -u");
  if (child == 0) {
    if (fork() == 0) run_holder(listener.get(), task);
    _exit(0);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
}

}  // namespace

UniqueFd connect_or_start_holder(std::uint64_t digest, const RunTask& task) {
  const auto fail = [](const char* operation) {
    return system_error(errno, "cannot find the other ranks of this run", operation);
  };
  for (int number = 0; number < kMostNames;) {
    const AbstractName name = make_name(task.user.uid, digest, number);
    UniqueFd fd = make_socket();
    const UniqueFd listener = make_socket();
    bool connected = false;
    const auto connects_or_binds = [&] {
      connected = connect(fd.get(), name.get(), name.size) == 0;
      if (!connected && errno != ECONNREFUSED) throw fail("connect");
      if (connected || bind(listener.get(), name.get(), name.size) == 0) return true;
      if (errno != EADDRINUSE) throw fail("bind");
      return false;
    };
    // Another rank was faster and is about to listen; who never does is none.
    if (!poll_until(kListeningPatience, connects_or_binds) || (connected && !is_own(fd, task.user.uid))) {
      ++number;
      continue;
    }
    if (connected) return fd;
    if (listen(listener.get(), SOMAXCONN) != 0) throw fail("listen");
    start_holder(listener, task);
  }
  throw Error(ErrorCode::host, "cannot find the other ranks of this run",
              "another user holds the names of sockets that it would use", "tell the administrator");
}

}  // namespace berth
