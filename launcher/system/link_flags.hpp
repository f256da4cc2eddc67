// A quick look at one network device. Unlike a netlink socket, the socket that this takes is gone the moment it is
// closed, so that it is not counted when a netns is proven empty right afterwards.
#pragma once

#include <optional>
#include <string>

namespace berth {

struct LinkFlags {
  bool up = false;       ///< administratively
  bool running = false;  ///< operationally
};
/// Of device `name` in the calling thread's netns (SIOCGIFFLAGS); nullopt if there is none. Throws Error{host}.
std::optional<LinkFlags> read_link_flags(const std::string& name);

}  // namespace berth
