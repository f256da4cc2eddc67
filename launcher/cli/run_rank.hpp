// What `berth run` does once CLI11 has understood it.
#pragma once

#include "launcher/enter/run_call.hpp"

namespace berth {

/// Makes the calling process a rank, by berth-enter where that has the rights. Returns only where that failed, and was
/// said: the exit code. Throws Error.
int run_rank(const RunArguments& run);

}  // namespace berth
