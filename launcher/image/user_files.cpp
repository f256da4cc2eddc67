#include "launcher/image/user_files.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <vector>

#include "launcher/system/user_database.hpp"

namespace berth {

namespace {

bool is_field(std::string_view text) { return text.find_first_of(std::string_view(":\n\0", 3)) == text.npos; }

std::string with_final_newline(std::string text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

std::optional<std::string_view> find_name(const std::vector<DatabaseLine>& lines, std::string_view number) {
  for (const DatabaseLine& line : lines)
    if (line.number == number) return line.name;
  return std::nullopt;
}

}  // namespace

std::string add_user_line(const std::string& passwd, const std::string& name, const Credentials& user,
                          const std::string& home) {
  const std::string number = std::to_string(user.uid);
  for (const DatabaseLine& line : parse_database(passwd))
    if (line.name == name && line.number == number) return passwd;
  if (name.empty() || !is_field(name) || !is_field(home)) return passwd;
  // In front: an image's own line for the same number must not give the user another name and home.
  std::string result =
      fmt::format("{}:x:{}:{}:{}:{}:/bin/sh\n", name, user.uid, user.gid, name, home.empty() ? "/" : home);
  result += passwd.empty() && user.uid != 0 ? "root:x:0:0:root:/root:/bin/sh\n" : with_final_newline(passwd);
  return result;
}

std::string add_group_lines(const std::string& group, const std::string& host_group, const std::string& user_name,
                            const Credentials& user) {
  std::vector<std::uint32_t> wanted{user.gid};
  wanted.insert(wanted.end(), user.groups.begin(), user.groups.end());
  std::string result = group.empty() && user.gid != 0 ? "root:x:0:\n" : with_final_newline(group);
  const std::vector<DatabaseLine> host = parse_database(host_group);
  for (const std::uint32_t gid : wanted) {
    const std::string number = std::to_string(gid);
    if (find_name(parse_database(result), number)) continue;
    std::string name = fmt::format("g{}", gid);
    if (const auto known = find_name(host, number))
      name = *known;
    else if (gid == user.gid && !user_name.empty() && is_field(user_name))
      name = user_name;
    result += fmt::format("{}:x:{}:\n", name, gid);
  }
  return result;
}

}  // namespace berth
