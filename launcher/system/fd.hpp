// Ownership of file descriptors, and errno turned into Error.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "launcher/core/error.hpp"

namespace berth {

/// Owns one file descriptor; closes it at the end. Moves, never copies.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset(int fd = -1);
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// Another descriptor of the same open file description, close-on-exec. Throws Error{host}.
UniqueFd duplicate(const UniqueFd& fd);

/// Error{host} from an errno value, which the caller captured first: why = "OPERATION: strerror (NAME)".
Error system_error(int error_number, std::string what, std::string_view operation, std::string fix = {});

/// Reads at most `limit` bytes of `path` (relative to `dir`, an O_PATH or directory descriptor or AT_FDCWD).
/// Throws Error{host}; a file that is longer is an error, not a cut.
std::string read_file(int dir, const std::string& path, std::size_t limit = 1 << 20);
/// Writes `text` over `path` atomically (temporary file and rename in the same directory), with `mode`.
void write_file_atomically(const std::string& path, std::string_view text, unsigned mode);
/// Writes `text` in one write() to an existing file, as sysfs and cgroupfs want it.
void write_control_file(const std::string& path, std::string_view text);

}  // namespace berth
