#include "launcher/system/host_name.hpp"

#include <unistd.h>

#include <array>

namespace berth {

std::string read_host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  const std::string full = name.data();
  return full.substr(0, full.find('.'));
}

}  // namespace berth
