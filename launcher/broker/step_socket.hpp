// Where the ranks of a step find its broker: STATE/steps/JOB.STEP/socket, in directories that only root can enter.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

std::string step_directory(const std::string& state_directory, std::uint32_t job, std::uint32_t step);

/// Makes the directories and a SOCK_SEQPACKET listener in them, in place of one that an earlier step of the same number
/// left behind. Throws Error{host}.
UniqueFd listen_for_ranks(const std::string& directory);
/// A rank's connection. Throws Error{host}.
UniqueFd connect_to_broker(const std::string& directory);
/// Removes socket and directory; neither has to exist.
void remove_step_directory(const std::string& directory);
/// Removes the directories of steps whose broker and launcher were killed: nobody listens there any more. Returns how
/// many.
unsigned remove_stale_step_directories(const std::string& state_directory);

}  // namespace berth
