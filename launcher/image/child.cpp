#include "launcher/image/child.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>

namespace berth {

namespace {

constexpr char kAnswer = 'A';
constexpr char kError = 'E';

// An Error as one record: tag, code, and three texts each behind a zero byte. Texts are cut so that the record fits.
std::string encode_error(const Error& error) {
  static constexpr std::size_t text_limit = 8192;
  const auto field = [](const std::string& text) { return text.substr(0, std::min(text_limit, text.find('\0'))); };
  std::string record{kError, static_cast<char>('0' + static_cast<int>(error.code))};
  record += field(error.what_text) + '\0' + field(error.why) + '\0' + field(error.fix);
  return record;
}

Error decode_error(const std::string& record, const std::string& what) {
  const int code = record.size() > 1 ? record[1] - '0' : -1;
  const std::size_t first = record.find('\0', 2);
  const std::size_t second = first == std::string::npos ? first : record.find('\0', first + 1);
  if (code < 0 || code > static_cast<int>(ErrorCode::internal) || second == std::string::npos)
    return {ErrorCode::internal, what, "the child process sent a malformed record"};
  return {static_cast<ErrorCode>(code), record.substr(2, first - 2), record.substr(first + 1, second - first - 1),
          record.substr(second + 1)};
}

void send_record(int socket, const std::string& record, int fd) {
  iovec part{const_cast<char*>(record.data()), record.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) _exit(kExitRefused);
}

// Empty text: the child closed its end without a record.
ChildAnswer receive_record(int socket, const std::string& what) {
  ChildAnswer answer;
  answer.text.resize(kChildAnswerLimit + 1);
  iovec part{answer.text.data(), answer.text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t n = 0;
  do n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) throw system_error(errno, what, "recvmsg");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header))
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
      answer.fd.reset(fd);
    }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    throw Error(ErrorCode::internal, what, "the child process sent a record that is too long");
  answer.text.resize(static_cast<std::size_t>(n));
  return answer;
}

[[noreturn]] void run_child(int socket, pid_t parent, const std::function<ChildAnswer()>& work) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExitRefused);
  try {
    const ChildAnswer answer = work();
    send_record(socket, kAnswer + answer.text, answer.fd.get());
  } catch (const Error& error) {
    send_record(socket, encode_error(error), -1);
  } catch (const std::exception& error) {
    send_record(socket, encode_error({ErrorCode::internal, "cannot go on in a child process", error.what()}), -1);
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
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) throw system_error(errno, what, "socketpair");
  const UniqueFd here(ends[0]);
  UniqueFd there(ends[1]);
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
  ChildAnswer answer = receive_record(here.get(), what);
  const int status = child.wait();
  if (answer.text.empty()) {
    const std::string how = status != -1 && WIFSIGNALED(status)
                                ? fmt::format("was killed by signal {}", WTERMSIG(status))
                                : std::string("ended");
    throw Error(ErrorCode::host, what, fmt::format("the child process {} without an answer", how));
  }
  if (answer.text.front() == kError) throw decode_error(answer.text, what);
  answer.text.erase(0, 1);
  return answer;
}

}  // namespace berth
