#include "launcher/system/user_database.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/program.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestFile = 64U << 20U;  // bytes; a group of a large site can list all its members
constexpr std::chrono::seconds kPatience{60};     // for a directory server

/// Cuts `text` behind its first `separator` and returns what was before that.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

/// "" if the node has no such file.
std::string read_local(const char* path) {
  try {
    return read_file(AT_FDCWD, path, kLargestFile);
  } catch (const Error&) {
    return {};
  }
}

std::optional<DatabaseLine> find_line(const std::vector<DatabaseLine>& lines, std::uint32_t number) {
  const std::string digits = std::to_string(number);
  for (const DatabaseLine& line : lines)
    // "+" and "-" stand for what another source says (nsswitch.conf(5), compat).
    if (line.number == digits && line.name.find_first_of("+-") != 0) return line;
  return std::nullopt;
}

std::optional<User> find_user(std::string_view text, std::uint32_t uid) {
  auto line = find_line(parse_database(text), uid);
  if (!line) return std::nullopt;
  User user{.uid = uid, .gid = 0, .name = std::string(line->name), .home = {}, .shell = {}};
  const std::string_view gid = take_until(line->rest, ':');
  if (std::from_chars(gid.data(), gid.data() + gid.size(), user.gid).ec != std::errc()) return std::nullopt;
  take_until(line->rest, ':');  // the user's full name
  user.home = take_until(line->rest, ':');
  user.shell = take_until(line->rest, ':');
  return user;
}

/// Lines of `database`, "passwd" or "group", as its file has them, of those numbers that it has.
std::string ask_name_service(const std::string& database, const std::vector<std::uint32_t>& numbers) {
  if (numbers.empty()) return {};
  std::vector<std::string> arguments{"getent", database};
  for (const std::uint32_t number : numbers) arguments.push_back(std::to_string(number));
  if (auto answer = read_program_output(arguments, {}, kPatience)) return std::move(*answer);
  std::string text;
  if (numbers.size() > 1)  // getent fails where one of them is unknown
    for (const std::uint32_t number : numbers) text += ask_name_service(database, {number});
  return text;
}

}  // namespace

std::vector<DatabaseLine> parse_database(std::string_view text) {
  std::vector<DatabaseLine> lines;
  while (!text.empty()) {
    std::string_view rest = take_until(text, '\n');
    if (std::count(rest.begin(), rest.end(), ':') < 3) continue;
    DatabaseLine line;
    line.name = take_until(rest, ':');
    take_until(rest, ':');  // the password
    line.number = take_until(rest, ':');
    line.rest = rest;
    lines.push_back(line);
  }
  return lines;
}

User read_user(std::uint32_t uid) {
  auto user = find_user(read_local("/etc/passwd"), uid);
  if (!user) user = find_user(ask_name_service("passwd", {uid}), uid);
  if (!user)
    throw Error(ErrorCode::host, fmt::format("cannot find the user with number {}", uid),
                "the node's user database has no such user, or did not answer",
                fmt::format("check the node's name service: getent passwd {}", uid));
  return std::move(*user);
}

std::vector<std::string> read_group_names(const std::vector<std::uint32_t>& ids) {
  const std::string text = read_local("/etc/group");
  const std::vector<DatabaseLine> local = parse_database(text);
  std::vector<std::uint32_t> unknown;
  for (const std::uint32_t gid : ids)
    if (!find_line(local, gid)) unknown.push_back(gid);
  const std::string answer = ask_name_service("group", unknown);
  const std::vector<DatabaseLine> others = parse_database(answer);
  std::vector<std::string> names;
  for (const std::uint32_t gid : ids) {
    auto line = find_line(local, gid);
    if (!line) line = find_line(others, gid);
    names.push_back(line ? std::string(line->name) : std::to_string(gid));
  }
  return names;
}

}  // namespace berth
