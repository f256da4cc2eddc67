// Work that must not be done in the caller's process (with the user's rights, in another mount namespace, or that may
// hang) is done in a forked child, which answers with one record.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

struct ChildAnswer {
  std::string text;  ///< bytes, as many as a record holds (records.hpp)
  UniqueFd fd;       ///< may be empty
};

/// Forks, runs `work` in the child and returns its answer. An Error thrown by `work` is thrown here again. A child that
/// does not answer within `patience` (a hanging network file system) is killed: Error{host} whose `what` is `what`, as
/// for a child that dies without an answer. The child dies with its parent, and only it keeps what it opened.
ChildAnswer ask_child(const std::string& what, std::chrono::milliseconds patience,
                      const std::function<ChildAnswer()>& work);

}  // namespace berth
