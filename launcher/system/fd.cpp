#include "launcher/system/fd.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace berth {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

UniqueFd duplicate(const UniqueFd& fd) {
  UniqueFd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw system_error(errno, "cannot duplicate a file descriptor", "fcntl");
  return copy;
}

Error system_error(int error_number, std::string what, std::string_view operation, std::string fix) {
  const char* name = strerrorname_np(error_number);
  return {ErrorCode::host, std::move(what),
          fmt::format("{}: {} ({})", operation, strerrordesc_np(error_number) ? strerrordesc_np(error_number) : "error",
                      name ? name : std::to_string(error_number)),
          std::move(fix)};
}

std::string read_file(int dir, const std::string& path, std::size_t limit) {
  const UniqueFd fd(openat(dir, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) throw system_error(errno, fmt::format("cannot read '{}'", path), "open");
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(errno, fmt::format("cannot read '{}'", path), "read");
    }
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > limit)
      throw Error(ErrorCode::host, fmt::format("cannot read '{}'", path), fmt::format("larger than {} bytes", limit));
  }
}

namespace {
void write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(errno, fmt::format("cannot write '{}'", path), "write");
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}
}  // namespace

void write_file_atomically(const std::string& path, std::string_view text, unsigned mode) {
  const std::string temporary = fmt::format("{}.{}.new", path, ::getpid());
  {
    const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!fd) throw system_error(errno, fmt::format("cannot write '{}'", path), "open");
    if (fchmod(fd.get(), mode) != 0) throw system_error(errno, fmt::format("cannot write '{}'", path), "fchmod");
    try {
      write_all(fd.get(), text, path);
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error_number = errno;
    ::unlink(temporary.c_str());
    throw system_error(error_number, fmt::format("cannot write '{}'", path), "rename");
  }
}

void write_control_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) throw system_error(errno, fmt::format("cannot write '{}'", path), "open");
  const ssize_t n = ::write(fd.get(), text.data(), text.size());
  if (n < 0) throw system_error(errno, fmt::format("cannot write '{}' to '{}'", text, path), "write");
}

}  // namespace berth
