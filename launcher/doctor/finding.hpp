// What `berth doctor` has to say about one thing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth {

enum class Severity {
  ok,       ///< as it should be
  note,     ///< worth knowing: nothing is wrong
  warning,  ///< works, but not all of it, or not for long
  error,    ///< no rank can be started here, or not as the policy says
};
std::string_view to_string(Severity severity);

struct Finding {
  Severity severity = Severity::ok;
  std::string what;
  std::string why;  ///< empty where `what` says it all
  std::string fix;  ///< empty if there is nothing to do
  bool operator==(const Finding&) const = default;
};
using Findings = std::vector<Finding>;

}  // namespace berth
