// The one error type of Berth: what failed, why, and how to fix it.
#pragma once

#include <array>
#include <exception>
#include <string>
#include <string_view>

namespace berth {

/// Classes of failure, stable for scripts (`--json` prints their names) and for tests.
enum class ErrorCode { usage, policy, image, busy, host, internal };
inline constexpr std::array kErrorCodes = {ErrorCode::usage, ErrorCode::policy, ErrorCode::image,
                                           ErrorCode::busy,  ErrorCode::host,   ErrorCode::internal};

std::string_view to_string(ErrorCode code);

/// Exit codes of anything that was to become a rank; from the rank's exec on, the rank's own code counts.
constexpr int kExitRefused = 125;        ///< refused, or failed before the rank ran
constexpr int kExitNotExecutable = 126;  ///< the command was found but cannot be executed
constexpr int kExitNotFound = 127;       ///< the command does not exist

/// Thrown wherever something cannot be done; caught at three boundaries only (CLI main, SPANK guard, broker main).
/// `what` completes the sentence "berth: …" and starts with "cannot", "no" or the offending thing in single ticks.
struct Error : std::exception {
  Error(ErrorCode code_, std::string what_, std::string why_, std::string fix_ = {});

  /// Three lines at most, without trailing newline: "berth: WHAT\n  why: WHY\n  fix: FIX". Control characters that
  /// came with user input are escaped, so that a message cannot forge another one or drive a terminal.
  [[nodiscard]] std::string render() const;
  [[nodiscard]] const char* what() const noexcept override { return what_text.c_str(); }

  ErrorCode code;
  std::string what_text;
  std::string why;
  std::string fix;
};

/// `text` with control characters, DEL, bytes that are not UTF-8 and bidirectional overrides written as \xNN.
std::string escape_for_terminal(std::string_view text);

}  // namespace berth
