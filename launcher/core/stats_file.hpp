// The name of the file that --rdma-stats=FILE writes on each node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace berth {

/// Why `pattern` cannot be used; empty: it can. Known are %N, %j, %s and %%.
std::string find_pattern_error(std::string_view pattern);

/// %N becomes the node's name, %j the job (or the pid of mpirun), %s the step. Without %N the name is appended
/// (".n1"): every node writes a file of its own.
std::string expand_stats_pattern(std::string_view pattern, std::string_view node, std::uint32_t job,
                                 std::uint32_t step);

}  // namespace berth
