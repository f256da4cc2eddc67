// Captured nodes: whatever the text, parse_capture() returns or throws Error with a place, and what it returns is
// written and read again as the same. Text that starts with "<" is taken as its XML alone.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "launcher/core/capture.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/xml_text.hpp"

namespace {

void check_xml(std::string_view text) {
  try {
    const std::string shared = berth::make_shareable_topology(text, "x.xml");
    if (berth::make_shareable_topology(shared, "x.xml") != shared) std::abort();
  } catch (const berth::Error& error) {
    if (!error.why.starts_with("x.xml:")) std::abort();
  }
}

void check_capture(std::string_view text) {
  try {
    const berth::Capture capture = berth::parse_capture(text, "n.json");
    if (berth::parse_capture(berth::to_json_text(capture), "n.json") != capture) std::abort();
  } catch (const berth::Error& error) {
    if (error.code != berth::ErrorCode::host || !error.why.starts_with("n.json")) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('<')) {
    check_xml(text);
  } else {
    check_capture(text);
  }
  return 0;
}
