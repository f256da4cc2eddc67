// What OCI runtimes say: whatever the text, the state and the configuration are read or refused with an Error, and what
// is read is of the form that the rest relies on.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "hooks/container_state.hpp"
#include "launcher/core/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kLimit = 1U << 20U;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto state = berth::parse_container_state(text, kLimit);
    const bool good = !state || (state->pid >= 0 && state->bundle.starts_with('/') && !state->id.empty() &&
                                 state->id.find('/') == std::string::npos);
    if (!good) std::abort();
  } catch (const berth::Error&) {
  }
  try {
    const berth::ContainerConfig config = berth::parse_container_config(text, kLimit);
    berth::find_denied(config.devices, {{"uverbs0", 231, 192, 0666, 0, 0}});
  } catch (const berth::Error&) {
  }
  return 0;
}
