// What this machine calls itself.
#pragma once

#include <string>

namespace berth {

/// The first label of the host name, which is what Slurm calls the node unless told otherwise.
std::string read_host_name();

}  // namespace berth
