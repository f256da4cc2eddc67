// What `berth run` hands to berth-enter: everything that a user may say, in a form that needs next to no parser,
// because the reader is a setuid program.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

struct RunRecord {
  std::vector<std::pair<std::string, std::string>> options;  ///< for apply_option(), in order
  std::vector<std::string> command;                          ///< argv of the rank; never empty
  std::vector<std::string> environment;                      ///< "NAME=VALUE"
  bool operator==(const RunRecord&) const = default;
};

/// Bytes that a record may have: more than the kernel takes for arguments and environment of one exec (execve(2)).
constexpr std::size_t kLongestRunRecord = std::size_t{8} << 20;

/// A tag, a value and a NUL byte for each field: 'o' NAME=VALUE (option), 'c' (argument of the command), 'e'
/// (environment), after a first line that names the version. Values cannot hold NUL bytes: they are arguments and
/// variables. Throws Error{usage} if the record would be too long.
std::string make_run_record(const RunRecord& record);
/// Throws Error{usage} for anything that make_run_record() does not write.
RunRecord parse_run_record(std::string_view text);

}  // namespace berth
