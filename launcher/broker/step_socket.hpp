// Where the ranks of a step find its broker: STATE/steps/JOB.STEP/socket (Slurm), STATE/steps/run-UID-DIGEST/socket
// (`berth run`), in directories that only root can enter.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "launcher/system/fd.hpp"

namespace berth {

std::string step_directory(const std::string& state_directory, std::uint32_t job, std::uint32_t step);
/// Of ranks that `berth run` starts: all that have the same user and `digest`, of what the launcher says and of what is
/// asked for, are planned together.
std::string run_directory(const std::string& state_directory, std::uint32_t uid, std::uint64_t digest);

/// Makes the directories and a SOCK_SEQPACKET listener in them, in place of one that an earlier step of the same number
/// left behind. Throws Error{host}.
UniqueFd listen_for_ranks(const std::string& directory);
/// A rank's connection. Throws Error{host}.
UniqueFd connect_to_broker(const std::string& directory);
/// For a rank that nobody has started a broker for: connects to the one of `directory`, or has `start` make one, which
/// gets the listener and sends the StepRecord. However many ranks come at once, one of them starts it. A broker that
/// takes no more ranks has removed its socket. Throws Error{host} and what `start` throws.
UniqueFd connect_or_start_broker(const std::string& directory, const std::function<void(const UniqueFd&)>& start);
/// The directory of a listener that listen_for_ranks() has made.
std::string directory_of(const UniqueFd& listener);
/// Removes socket and directory; neither has to exist.
void remove_step_directory(const std::string& directory);
/// Removes the directories of steps whose broker and launcher were killed: nobody listens there any more. Returns how
/// many.
unsigned remove_stale_step_directories(const std::string& state_directory);

}  // namespace berth
