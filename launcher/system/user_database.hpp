// Users and groups: by the files of the node, and by its name service where they do not say. That one is asked by
// getent(1), so that programs that call this can be linked statically, and load no code that a site configured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string name;
  std::string home;
  std::string shell;
};

/// A line of passwd(5) or group(5).
struct DatabaseLine {
  std::string_view name;
  std::string_view number;  ///< uid or gid
  std::string_view rest;    ///< the fields behind that
};

/// All lines of `text` that have the fields that both files have; the answer points into it.
std::vector<DatabaseLine> parse_database(std::string_view text);

/// Throws Error{host} if no user has this number.
User read_user(std::uint32_t uid);

/// A group without a name appears as its number.
std::vector<std::string> read_group_names(const std::vector<std::uint32_t>& ids);

}  // namespace berth
