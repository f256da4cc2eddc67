// `berth run` for users where berth-enter has no rights: nothing that needs an administrator. Host network, shared
// devices, CPUs pinned by the same planner, and the image as root in a user namespace.
#pragma once

#include <string>

#include "launcher/enter/run_call.hpp"

namespace berth {

/// Makes the calling process the rank that `call` asks for; `obstacle` says why berth-enter cannot do it. Returns
/// only if that fails: the exit code, after saying why on standard error (one rank of a node for all). Closes what the
/// caller has open.
int run_unprivileged(const RunCall& call, const std::string& obstacle);

}  // namespace berth
