// Work that must not be done in the caller's process (with the user's rights, in another mount namespace, or that may
// hang) is done in a child, which answers with one record.
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

/// What memory the child works in.
enum class ChildMemory {
  copied,  ///< as fork() has it: its own
  /// The caller's, which takes a small part of the time: fork() copies page tables, and both processes then fault on
  /// every page. All else (descriptors, directories, credentials, mount namespace) is the child's own. What it changes
  /// in objects of the caller stays changed, descriptors that it closes there are closed in the child alone: `work`
  /// only reads what it did not make. It must leave alone what the C library keeps of descriptors (syslog(), the user
  /// database), start no program, and answer with no more than a socket holds.
  ///
  /// Never set user or group ids to the user's there: who may trace the child could write the caller's memory. File
  /// system ids are harmless (FileAccessAs).
  shared,
};

/// Runs `work` in a child and returns its answer. An Error thrown by `work` is thrown here again. A child that does not
/// answer within `patience` (a hanging network file system) is killed: Error{host} whose `what` is `what`, as for a
/// child that dies without an answer. The child dies with its parent, and only it keeps what it opened.
ChildAnswer ask_child(const std::string& what, std::chrono::milliseconds patience,
                      const std::function<ChildAnswer()>& work, ChildMemory memory = ChildMemory::copied);

}  // namespace berth
