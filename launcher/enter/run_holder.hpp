// What plans the ranks of one run and node together where there is no broker: a process of the user's without any
// rights, forked by the first rank, which ends as soon as all ranks have what they need. They find it by an abstract
// socket (unix(7)), which leaves nothing behind and belongs to the network namespace that they share.
#pragma once

#include <map>
#include <string>

#include "launcher/core/launch_context.hpp"
#include "launcher/core/request.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

/// What a rank knows, and all ranks of the run have in common.
struct RunTask {
  Request request;
  bool net_is_given = false;  ///< request.net is the user's word and not a default
  LaunchContext context;
  Credentials user;
  std::map<std::string, std::string> environment;
  std::string obstacle;  ///< why berth-enter has no rights
};

/// A connection to the holder of the run `digest` (digest_run()), which the calling process forks if it is the first.
/// The holder speaks the broker's language (protocol.hpp): a rank says {"local_rank": N, "rank": N, "cpus": LIST} and
/// is answered with a Grant whose only descriptor is a root file system, in the mount namespace of a user namespace
/// that all ranks share. Throws Error{host}.
UniqueFd connect_or_start_holder(std::uint64_t digest, const RunTask& task);

}  // namespace berth
