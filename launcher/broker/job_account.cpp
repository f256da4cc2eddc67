#include "launcher/broker/job_account.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "launcher/system/fd.hpp"

namespace berth {

namespace {

constexpr std::chrono::seconds kPatience{10};

[[noreturn]] void exec_scontrol(int output, std::uint32_t job, const std::string& slurm_conf) {
  const std::string number = std::to_string(job);
  const std::string conf = "SLURM_CONF=" + slurm_conf;
  const char* const arguments[] = {"scontrol", "--oneliner", "show", "job", number.c_str(), nullptr};
  const char* const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                                     slurm_conf.empty() ? nullptr : conf.c_str(), nullptr};
  dup2(output, STDOUT_FILENO);
  execvpe("scontrol", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  _exit(127);
}

}  // namespace

std::string read_job_account(std::uint32_t job, const std::string& slurm_conf) {
  const std::string what = fmt::format("cannot ask Slurm for the account of job {}", job);
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw system_error(errno, what, "pipe2");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, what, "fork");
  if (pid == 0) exec_scontrol(writer.get(), job, slurm_conf);
  writer.reset();

  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{reader.get(), POLLIN, 0};
    const int ready = poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    std::array<char, 4096> buffer;
    const ssize_t n = ready > 0 ? read(reader.get(), buffer.data(), buffer.size()) : -1;
    if (n <= 0) {
      if (n < 0) kill(pid, SIGKILL);
      break;
    }
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error(ErrorCode::host, what, "scontrol failed or did not answer",
                "make scontrol work on this node, or write the policy's rules without accounts");
  return parse_job_account(text);
}

std::string parse_job_account(const std::string& line) {
  constexpr std::string_view kKey = " Account=";
  const std::size_t at = line.find(kKey);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + kKey.size();
  const std::string account = line.substr(begin, line.find_first_of(" \n", begin) - begin);
  return account == "(null)" ? std::string() : account;
}

}  // namespace berth
