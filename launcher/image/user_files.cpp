#include "launcher/image/user_files.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <vector>

namespace berth {

namespace {

struct Line {
  std::string_view name;
  std::string_view number;  // uid or gid: the third field of both files
};

std::vector<Line> parse_lines(std::string_view text) {
  std::vector<Line> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
    const std::size_t third = second == line.npos ? second : line.find(':', second + 1);
    if (third == line.npos) continue;
    lines.push_back({line.substr(0, first), line.substr(second + 1, third - second - 1)});
  }
  return lines;
}

bool is_field(std::string_view text) { return text.find_first_of(std::string_view(":\n\0", 3)) == text.npos; }

std::string with_final_newline(std::string text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

std::optional<std::string_view> find_name(const std::vector<Line>& lines, std::string_view number) {
  for (const Line& line : lines)
    if (line.number == number) return line.name;
  return std::nullopt;
}

}  // namespace

std::string add_user_line(const std::string& passwd, const std::string& name, const Credentials& user,
                          const std::string& home) {
  const std::string number = std::to_string(user.uid);
  for (const Line& line : parse_lines(passwd))
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
  const std::vector<Line> host = parse_lines(host_group);
  for (const std::uint32_t gid : wanted) {
    const std::string number = std::to_string(gid);
    if (find_name(parse_lines(result), number)) continue;
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
