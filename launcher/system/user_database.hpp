// Users and groups by the node's name service. Never call it inside an image's root: NSS loads code from there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace berth {

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string name;
  std::string home;
  std::string shell;
  std::vector<std::uint32_t> group_ids;  ///< all groups, the primary one among them
  std::vector<std::string> groups;       ///< their names; a group without a name appears as its number
};

/// Throws Error{host} if no user has this number.
User read_user(std::uint32_t uid);

}  // namespace berth
