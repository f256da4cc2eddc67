#include "launcher/core/inventory.hpp"

namespace berth {

std::string_view to_string(LinkState state) {
  switch (state) {
    case LinkState::down:
      return "down";
    case LinkState::up:
      return "up";
    case LinkState::unknown:
      break;
  }
  return "unknown";
}

std::string_view to_string(RdmaNetnsMode mode) { return mode == RdmaNetnsMode::shared ? "shared" : "exclusive"; }

}  // namespace berth
