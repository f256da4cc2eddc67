// Value types, options and hostlists: what parses prints as something that parses to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "launcher/core/addresses.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/request.hpp"
#include "launcher/core/values.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <typename Parse>
void check_round_trip(Parse parse, std::string_view text) {
  using berth::to_string;  // a MAC address is a std::array
  if (const auto value = parse(text)) require(parse(to_string(*value)) == value);
}

void check_hostlist(std::string_view text) {
  std::vector<std::string> hosts;
  try {
    hosts = berth::expand_hostlist(text);
  } catch (const berth::Error&) {
    return;
  }
  for (std::size_t index = 0; index < std::min<std::size_t>(hosts.size(), 64); ++index) {
    const auto first = std::find(hosts.begin(), hosts.end(), hosts[index]);
    require(berth::node_number(text, hosts[index]) == static_cast<unsigned>(first - hosts.begin()));
  }
}

void check_options(std::string_view text) {
  for (const berth::OptionSpec& spec : berth::option_specs()) {
    berth::Request request;
    try {
      berth::apply_option(request, spec.name, text);
    } catch (const berth::Error& error) {
      require(request == berth::Request{});
      const std::string message = error.render();
      require(std::count(message.begin(), message.end(), '\n') <= 2);
      continue;
    }
    for (const berth::MountRequest& mount : request.mounts) {
      require(berth::parse_absolute_path(mount.source) == mount.source);
      require(berth::parse_absolute_path(mount.target) == mount.target);
      require(!berth::is_within(mount.target, "/proc") && mount.target != "/");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_round_trip(berth::parse_pci_address, text);
  check_round_trip(berth::parse_cpu_list, text);
  check_round_trip(berth::parse_mac_address, text);
  check_round_trip(berth::parse_ip_prefix, text);
  const std::string escaped = berth::escape_for_terminal(text);
  require(berth::escape_for_terminal(escaped) == escaped);
  require(std::none_of(escaped.begin(), escaped.end(), [](char c) { return c >= 0 && (c < 0x20 || c == 0x7f); }));
  check_hostlist(text);
  check_options(text);
  return 0;
}
