#include "launcher/system/user_database.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <optional>

#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestEntry = 16U << 20U;  // a group of a large site can list all its members

std::string read_group_name(gid_t gid) {
  group entry{};
  group* found = nullptr;
  std::string buffer(4096, '\0');
  while (getgrgid_r(gid, &entry, buffer.data(), buffer.size(), &found) == ERANGE && buffer.size() < kLargestEntry) {
    buffer.resize(buffer.size() * 2);
  }
  return found == nullptr ? std::to_string(gid) : std::string(found->gr_name);
}

}  // namespace

User read_user(std::uint32_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::string buffer(4096, '\0');
  int error = ERANGE;
  while (error == ERANGE && buffer.size() < kLargestEntry) {
    error = getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) buffer.resize(buffer.size() * 2);
  }
  if (found == nullptr) {
    const std::string what = fmt::format("cannot find the user with number {}", uid);
    if (error != 0) throw system_error(error, what, "getpwuid_r", "check the node's name service (getent passwd)");
    throw Error(ErrorCode::host, what, "the node's user database has no such user",
                "check the node's name service (getent passwd)");
  }
  return {uid, found->pw_gid, found->pw_name, found->pw_dir, found->pw_shell};
}

std::vector<std::uint32_t> read_group_ids(const User& user) {
  int count = 64;
  std::vector<gid_t> ids(static_cast<std::size_t>(count));
  while (getgrouplist(user.name.c_str(), user.gid, ids.data(), &count) < 0) {
    // glibc reports how many there are; a database that changes meanwhile may need another round.
    const auto needed = static_cast<std::size_t>(count);
    ids.resize(std::max(needed, ids.size() + 1));
    count = static_cast<int>(ids.size());
  }
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

std::vector<std::string> read_group_names(const std::vector<std::uint32_t>& ids) {
  std::vector<std::string> names;
  for (const std::uint32_t gid : ids) names.push_back(read_group_name(gid));
  return names;
}

}  // namespace berth
