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
};

/// Throws Error{host} if no user has this number.
User read_user(std::uint32_t uid);

/// All groups of the user, the primary one among them. Asks every source of the name service: slow at some sites.
std::vector<std::uint32_t> read_group_ids(const User& user);
/// A group without a name appears as its number.
std::vector<std::string> read_group_names(const std::vector<std::uint32_t>& ids);

}  // namespace berth
