#include "launcher/image/child.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>

#include "launcher/core/error_json.hpp"
#include "launcher/system/records.hpp"

namespace berth {

namespace {

constexpr char kAnswer = 'A';
constexpr char kError = 'E';

// A parent that hears nothing says so itself.
void send_error(int socket, const Error& error) {
  try {
    send_record(socket, kError + to_json_value(error).dump());
  } catch (const Error&) {
    _exit(kExitRefused);
  }
}

[[noreturn]] void run_child(int socket, pid_t parent, const std::function<ChildAnswer()>& work) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExitRefused);
  try {
    const ChildAnswer answer = work();
    send_record(socket, kAnswer + answer.text, answer.fd ? std::vector{answer.fd.get()} : std::vector<int>{});
  } catch (const Error& error) {
    send_error(socket, error);
  } catch (const std::exception& error) {
    send_error(socket, {ErrorCode::internal, "cannot go on in a child process", error.what()});
  }
  _exit(0);
}

// Ends with the child reaped, whatever happens in between.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      wait();
    }
  }
  // -1 if somebody else (or SIGCHLD ignored) reaped it.
  int wait() {
    int status = -1;
    while (waitpid(pid_, &status, 0) < 0)
      if (errno != EINTR) break;
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

bool becomes_readable(int socket, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waiter{socket, POLLIN, 0};
    const int ready = poll(&waiter, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

}  // namespace

ChildAnswer ask_child(const std::string& what, std::chrono::milliseconds patience,
                      const std::function<ChildAnswer()>& work) {
  auto [here, there] = make_socket_pair();
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, what, "fork");
  if (pid == 0) run_child(there.get(), parent, work);
  Child child(pid);
  there.reset();

  if (!becomes_readable(here.get(), patience))
    throw Error(ErrorCode::host, what,
                fmt::format("no answer within {} s", static_cast<double>(patience.count()) / 1000),
                "a file system of this node hangs: see its NFS, autofs or FUSE mounts");
  auto record = receive_record(here.get());
  const int status = child.wait();
  if (!record) {
    const std::string how = status != -1 && WIFSIGNALED(status)
                                ? fmt::format("was killed by signal {}", WTERMSIG(status))
                                : std::string("ended");
    throw Error(ErrorCode::host, what, fmt::format("the child process {} without an answer", how));
  }
  const bool is_error = record->text.front() == kError;
  record->text.erase(0, 1);
  if (is_error) throw parse_error(nlohmann::json::parse(record->text, nullptr, false));
  ChildAnswer answer{std::move(record->text), {}};
  if (!record->fds.empty()) answer.fd = std::move(record->fds.front());
  return answer;
}

}  // namespace berth
