// Programs that are to start with root's rights.
#pragma once

#include <string>

namespace berth {

/// Why `path` would not get root's rights if users started it: neither setuid root nor file capabilities, nosuid, not
/// there; empty: it would. chmod(2), capabilities(7), statvfs(3).
std::string find_setuid_obstacle(const std::string& path);

}  // namespace berth
