#include "launcher/image/child.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <optional>

#include "launcher/core/error_json.hpp"
#include "launcher/system/records.hpp"

namespace berth {

namespace {

constexpr char kAnswer = 'A';
constexpr char kError = 'E';

struct Task {
  int socket;
  pid_t parent;
  const std::function<ChildAnswer()>& work;
};

void send_error(int socket, const Error& error) { send_record(socket, kError + to_json_value(error).dump()); }

// Returns the exit status, so that everything thrown is put away before the child ends: it may be the parent's memory.
int run_child(const Task& task) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != task.parent) return kExitRefused;
  try {
    try {
      const ChildAnswer answer = task.work();
      send_record(task.socket, kAnswer + answer.text, answer.fd ? std::vector{answer.fd.get()} : std::vector<int>{});
    } catch (const Error& error) {
      send_error(task.socket, error);
    } catch (const std::exception& error) {
      send_error(task.socket, {ErrorCode::internal, "cannot go on in a child process", error.what()});
    }
  } catch (const std::exception&) {  // a parent that hears nothing says so itself
    return kExitRefused;
  }
  return 0;
}

// Ends with the child reaped, whatever happens in between.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }
  void end() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    wait();
  }
  // -1 if somebody else (or SIGCHLD ignored) reaped it.
  int wait() {
    while (pid_ > 0 && waitpid(pid_, &status_, 0) < 0)
      if (errno != EINTR) break;
    pid_ = -1;
    return status_;
  }

 private:
  pid_t pid_;
  int status_ = -1;
};

// What a child that shares memory has of its own there: a stack, with a guard below it.
class Loan {
 public:
  explicit Loan(const std::string& what)
      : stack_(mmap(nullptr, kGuard + kSize, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    if (stack_ == MAP_FAILED) throw system_error(errno, what, "mmap");
    mprotect(stack_, kGuard, PROT_NONE);
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() {
    munmap(stack_, kGuard + kSize);
    // With its file system ids (FileAccessAs) the child changed this too, which belongs to the memory.
    if (was_dumpable_) prctl(PR_SET_DUMPABLE, 1);
  }
  [[nodiscard]] void* stack_top() const { return static_cast<std::byte*>(stack_) + kGuard + kSize; }

 private:
  static constexpr std::size_t kGuard = std::size_t{64} << 10;  // a page, of whatever size
  static constexpr std::size_t kSize = std::size_t{1} << 20;

  void* stack_;
  bool was_dumpable_ = prctl(PR_GET_DUMPABLE) == 1;
};

pid_t start_copy(const std::string& what, const Task& task) {
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, what, "fork");
  if (pid == 0) _exit(run_child(task));
  return pid;
}

// Not with CLONE_VFORK: for a child that hangs, the parent must be able to lose patience. `end` becomes readable then.
pid_t start_borrower(const std::string& what, Task& task, const Loan& loan, UniqueFd& end) {
  // A handler that runs in a borrower would run for this process: the child goes on with all signals blocked.
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  int pidfd = -1;
  const pid_t pid = clone([](void* argument) { return run_child(*static_cast<const Task*>(argument)); },
                          loan.stack_top(), CLONE_VM | CLONE_PIDFD | SIGCHLD, &task, &pidfd);
  const int error_number = errno;
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  if (pid < 0) throw system_error(error_number, what, "clone");
  end.reset(pidfd);
  return pid;
}

bool becomes_readable(int fd, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waiter{fd, POLLIN, 0};
    const int ready = poll(&waiter, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

#ifdef __SANITIZE_ADDRESS__
constexpr bool kCanBorrow = false;  // it knows one stack for each thread
#else
constexpr bool kCanBorrow = true;
#endif

}  // namespace

ChildAnswer ask_child(const std::string& what, std::chrono::milliseconds patience,
                      const std::function<ChildAnswer()>& work, ChildMemory memory) {
  auto [here, there] = make_socket_pair();
  Task task{there.get(), getpid(), work};
  const bool borrows = memory == ChildMemory::shared && kCanBorrow;
  std::optional<Loan> loan;
  if (borrows) loan.emplace(what);
  UniqueFd end;
  Child child(borrows ? start_borrower(what, task, *loan, end) : start_copy(what, task));
  // A borrower has the heap, and what the C library keeps for this thread. So nothing is done here until it has ended;
  // the answer waits in the socket. Where patience ends, it hangs in a system call, and the heap is whole.
  there.reset();
  if (!becomes_readable(borrows ? end.get() : here.get(), patience)) {
    child.end();
    throw Error(ErrorCode::host, what,
                fmt::format("no answer within {} s", static_cast<double>(patience.count()) / 1000),
                "a file system of this node hangs: see its NFS, autofs or FUSE mounts");
  }
  if (borrows) child.wait();
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
