// Policies: whatever the text, parse_policy() returns or throws Error with a place, and what it returns is usable.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "launcher/core/addresses.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/policy.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  berth::Policy policy;
  try {
    policy = berth::parse_policy(text, "p.toml");
  } catch (const berth::Error& error) {
    if (error.code != berth::ErrorCode::policy || !error.why.starts_with("p.toml:")) std::abort();
    if (error.why.starts_with("p.toml:0")) std::abort();
    return 0;
  }
  for (const berth::Pool& pool : policy.pools) {
    const bool has_interface = !berth::is_in_host_network(pool);
    if (pool.name.empty() || pool.parents.empty()) std::abort();
    if (has_interface && !berth::is_interface_name(pool.interface)) std::abort();
    if (pool.addresses.ranges.empty()) continue;
    const auto hosts = berth::expand_hostlist(pool.addresses.nodes);
    // The last device of the last node has addresses: the ranges were checked.
    const auto devices = static_cast<unsigned>(pool.parents.size()) * std::max(pool.berths_per_parent, 1U);
    const auto addresses = berth::choose_addresses(pool.addresses, hosts.back(), devices - 1, devices);
    if (addresses.size() != pool.addresses.ranges.size()) std::abort();
  }
  try {
    static_cast<void>(berth::choose_pool(policy, berth::Caller{}, berth::Request{}));
  } catch (const berth::Error&) {
    return 0;
  }
  return 0;
}
