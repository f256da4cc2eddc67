#include "launcher/system/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "launcher/system/fd.hpp"

namespace berth {

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const std::string& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

std::string find_program(const std::string& name) {
  const std::string beside = std::filesystem::read_symlink("/proc/self/exe").replace_filename(name);
  return access(beside.c_str(), X_OK) == 0 ? beside : BERTH_LIBEXECDIR "/" + name;
}

std::optional<std::string> read_program_output(const std::vector<std::string>& arguments,
                                               const std::vector<std::string>& variables,
                                               std::chrono::milliseconds patience) {
  const std::string what = "cannot run " + arguments.front();
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw system_error(errno, what, "pipe2");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::vector<std::string> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"};
  environment.insert(environment.end(), variables.begin(), variables.end());
  const std::vector<char*> argument_list = pointers_to(arguments);
  const std::vector<char*> environment_list = pointers_to(environment);
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, what, "fork");
  if (pid == 0) {
    dup2(null.get(), STDIN_FILENO);
    dup2(writer.get(), STDOUT_FILENO);
    dup2(null.get(), STDERR_FILENO);
    execvpe(arguments.front().c_str(), argument_list.data(), environment_list.data());
    _exit(127);
  }
  writer.reset();

  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{reader.get(), POLLIN, 0};
    const int ready = poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    std::array<char, 4096> buffer;
    const ssize_t n = ready > 0 ? read(reader.get(), buffer.data(), buffer.size()) : -1;
    if (n < 0) kill(pid, SIGKILL);
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;
  return text;
}

}  // namespace berth
