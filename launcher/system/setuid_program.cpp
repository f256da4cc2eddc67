#include "launcher/system/setuid_program.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

namespace berth {

std::string find_setuid_obstacle(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return fmt::format("there is no {} on this machine", path);
  const bool setuid = status.st_uid == 0 && (status.st_mode & S_ISUID) != 0;
  if (!setuid && getxattr(path.c_str(), "security.capability", nullptr, 0) <= 0)
    return fmt::format("{} is neither setuid root nor does it have file capabilities", path);
  struct statvfs file_system {};
  if (statvfs(path.c_str(), &file_system) == 0 && (file_system.f_flag & ST_NOSUID) != 0)
    return fmt::format("the file system of {} is mounted nosuid", path);
  return {};
}

}  // namespace berth
