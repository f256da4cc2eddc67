#include "launcher/core/inventory.hpp"

#include <algorithm>

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

const NetDevice* find_net_device(const Inventory& inventory, const std::string& name) {
  const auto found = std::ranges::find(inventory.net_devices, name, &NetDevice::name);
  return found == inventory.net_devices.end() ? nullptr : &*found;
}

}  // namespace berth
