#include "launcher/system/link_flags.hpp"

#include <fmt/format.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "launcher/system/fd.hpp"

namespace berth {

std::optional<LinkFlags> read_link_flags(const std::string& name) {
  const std::string what = fmt::format("cannot look at network device '{}'", name);
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) return std::nullopt;
  std::memcpy(request.ifr_name, name.data(), name.size());
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) throw system_error(errno, what, "socket");
  if (ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) {
    if (errno == ENODEV) return std::nullopt;
    throw system_error(errno, what, "SIOCGIFFLAGS");
  }
  return LinkFlags{(request.ifr_flags & IFF_UP) != 0, (request.ifr_flags & IFF_RUNNING) != 0};
}

}  // namespace berth
