#include "launcher/core/addresses.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <tuple>
#include <utility>

#include "launcher/core/error.hpp"

namespace berth {
namespace {

constexpr std::uint64_t kMostHosts = 65536;
constexpr std::size_t kMostDigits = 9;    // of a number in brackets, so that it fits into 32 bits
constexpr std::size_t kMostBrackets = 4;  // in one name

struct Range {
  unsigned first = 0;
  unsigned last = 0;
  std::size_t width = 0;  ///< digits that numbers are padded to with zeros
};

/// A literal, or (if there are ranges) a bracket.
struct Part {
  std::string literal;
  std::vector<Range> ranges;
  [[nodiscard]] std::uint64_t count() const {
    std::uint64_t count = 0;
    for (const Range& range : ranges) count += std::uint64_t{range.last} - range.first + 1;
    return ranges.empty() ? 1 : count;
  }
};

/// One entry of a hostlist: parts in order, the last bracket counting fastest.
using Entry = std::vector<Part>;

std::uint64_t count_hosts(const Entry& entry) {
  std::uint64_t count = 1;
  for (const Part& part : entry) count = std::min(count * part.count(), kMostHosts + 1);
  return count;
}

class HostlistParser {
 public:
  explicit HostlistParser(std::string_view text) : text_(text) {}

  std::vector<Entry> parse() {
    std::vector<Entry> entries;
    std::uint64_t hosts = 0;
    do {
      entries.push_back(parse_entry());
      hosts += count_hosts(entries.back());
      if (hosts > kMostHosts) refuse(fmt::format("it has over {} names", kMostHosts));
    } while (take(','));
    if (position_ != text_.size()) refuse("a ']' has no '['");
    return entries;
  }

 private:
  [[noreturn]] void refuse(std::string why) const {
    throw Error(ErrorCode::policy, fmt::format("cannot use the hostlist '{}'", text_.substr(0, 200)),
                fmt::format("{} (at character {})", why, position_ + 1), "write it as Slurm does: n[001-128],login1");
  }

  bool take(char c) {
    if (position_ >= text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }

  Entry parse_entry() {
    Entry entry;
    std::size_t brackets = 0;
    while (position_ < text_.size() && text_[position_] != ',' && text_[position_] != ']') {
      if (take('[')) {
        if (++brackets > kMostBrackets) refuse(fmt::format("a name has over {} brackets", kMostBrackets));
        entry.push_back(parse_bracket());
      } else {
        entry.push_back({parse_literal(), {}});
      }
    }
    if (entry.empty()) refuse("a name is empty");
    return entry;
  }

  std::string parse_literal() {
    const std::size_t begin = position_;
    for (; position_ < text_.size(); ++position_) {
      const char c = text_[position_];
      if (c == '[' || c == ']' || c == ',') break;
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (!letter && c != '-' && c != '_' && c != '.') refuse("a name has a character that host names do not have");
    }
    return std::string(text_.substr(begin, position_ - begin));
  }

  Part parse_bracket() {
    Part part;
    do {
      Range range;
      std::tie(range.first, range.width) = parse_number();
      range.last = range.first;
      if (take('-')) {
        std::size_t width = 0;
        std::tie(range.last, width) = parse_number();
        if (range.last < range.first || width < range.width) refuse("a range runs backwards");
      }
      part.ranges.push_back(range);
    } while (take(','));
    if (!take(']')) refuse("a '[' is not closed");
    return part;
  }

  std::pair<unsigned, std::size_t> parse_number() {
    const std::size_t begin = position_;
    while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') ++position_;
    const std::string_view digits = text_.substr(begin, position_ - begin);
    if (digits.empty()) refuse("a number is missing");
    if (digits.size() > kMostDigits) refuse("a number is too long");
    unsigned number = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return {number, digits.size()};
  }

  std::string_view text_;
  std::size_t position_ = 0;
};

void expand(const Entry& entry, std::size_t index, const std::string& prefix, std::vector<std::string>& hosts) {
  if (index == entry.size()) {
    hosts.push_back(prefix);
    return;
  }
  const Part& part = entry[index];
  if (part.ranges.empty()) expand(entry, index + 1, prefix + part.literal, hosts);
  for (const Range& range : part.ranges) {
    for (unsigned number = range.first; number <= range.last; ++number) {
      expand(entry, index + 1, fmt::format("{}{:0{}}", prefix, number, range.width), hosts);
    }
  }
}

/// Position of `host` among the names that `entry` from part `index` on stands for, without expanding them.
std::optional<std::uint64_t> find(const Entry& entry, std::size_t index, std::string_view host) {
  if (index == entry.size()) return host.empty() ? std::optional<std::uint64_t>(0) : std::nullopt;
  const Part& part = entry[index];
  if (part.ranges.empty()) {
    if (!host.starts_with(part.literal)) return std::nullopt;
    return find(entry, index + 1, host.substr(part.literal.size()));
  }
  std::uint64_t behind = 1;  // names per number of this bracket
  for (std::size_t later = index + 1; later < entry.size(); ++later) behind *= entry[later].count();
  std::optional<std::uint64_t> first;
  for (std::size_t digits = 1; digits <= std::min(host.size(), kMostDigits); ++digits) {
    if (host[digits - 1] < '0' || host[digits - 1] > '9') break;
    const auto rest = find(entry, index + 1, host.substr(digits));
    if (!rest) continue;
    unsigned number = 0;
    std::from_chars(host.data(), host.data() + digits, number);
    std::uint64_t before = 0;
    for (const Range& range : part.ranges) {
      const std::size_t printed = std::max(range.width, std::to_string(number).size());
      if (number >= range.first && number <= range.last && printed == digits) {
        const std::uint64_t position = (before + number - range.first) * behind + *rest;
        first = first ? std::min(*first, position) : position;
        break;
      }
      before += std::uint64_t{range.last} - range.first + 1;
    }
  }
  return first;
}

std::size_t address_size(const IpPrefix& address) { return address.family == IpPrefix::Family::v6 ? 16 : 4; }

/// The bits of byte `index` that belong to a network prefix of `prefix_length` bits.
unsigned network_mask(std::size_t index, unsigned prefix_length) {
  const unsigned bits_before = static_cast<unsigned>(index) * 8;
  const unsigned kept = prefix_length <= bits_before ? 0 : std::min(8U, prefix_length - bits_before);
  return 0xffU << (8 - kept) & 0xffU;
}

/// `range` with its host bits replaced by `number`.
IpPrefix make_address(const IpPrefix& range, std::uint64_t number) {
  IpPrefix address = range;
  const std::size_t size = address_size(range);
  for (std::size_t index = 0; index < size; ++index) {
    const std::size_t from_end = size - 1 - index;
    const unsigned host_byte = from_end < 8 ? static_cast<unsigned>(number >> from_end * 8 & 0xff) : 0;
    const unsigned mask = network_mask(index, range.prefix_length);
    address.bytes[index] = static_cast<std::uint8_t>((range.bytes[index] & mask) | host_byte);
  }
  return address;
}

}  // namespace

std::vector<std::string> expand_hostlist(std::string_view hostlist) {
  std::vector<std::string> hosts;
  for (const Entry& entry : HostlistParser(hostlist).parse()) expand(entry, 0, "", hosts);
  return hosts;
}

std::optional<unsigned> node_number(std::string_view hostlist, std::string_view host) {
  const std::vector<Entry> entries = HostlistParser(hostlist).parse();
  for (const std::string_view name : {host, host.substr(0, host.find('.'))}) {
    std::uint64_t before = 0;
    for (const Entry& entry : entries) {
      if (const auto position = find(entry, 0, name)) return static_cast<unsigned>(before + *position);
      before += count_hosts(entry);
    }
  }
  return std::nullopt;
}

std::uint64_t host_capacity(const IpPrefix& range) {
  const std::size_t host_bits = address_size(range) * 8 - range.prefix_length;
  if (host_bits >= 64) return UINT64_MAX;
  const std::uint64_t all_ones = (std::uint64_t{1} << host_bits) - 1;
  const bool has_broadcast = range.family == IpPrefix::Family::v4 && all_ones > 0;
  return has_broadcast ? all_ones - 1 : all_ones;
}

bool covers(const IpPrefix& range, const IpPrefix& address) {
  if (range.family != address.family) return false;
  for (std::size_t index = 0; index < address_size(range); ++index) {
    const unsigned differing = static_cast<unsigned>(range.bytes[index] ^ address.bytes[index]);
    if ((differing & network_mask(index, range.prefix_length)) != 0) return false;
  }
  return true;
}

std::uint64_t host_number(const IpPrefix& address, unsigned prefix_length) {
  std::uint64_t number = 0;
  for (std::size_t index = 0; index < address_size(address); ++index) {
    if (number >> 56 != 0) return UINT64_MAX;
    number = number << 8 | (address.bytes[index] & ~network_mask(index, prefix_length) & 0xffU);
  }
  return number;
}

std::uint64_t device_capacity(const IpPrefix& range, const std::vector<IpPrefix>& gateways) {
  std::uint64_t capacity = host_capacity(range);
  for (const IpPrefix& gateway : gateways) {
    if (!covers(range, gateway)) continue;
    const std::uint64_t number = host_number(gateway, range.prefix_length);
    if (number < UINT64_MAX) capacity = std::min(capacity, number == 0 ? 0 : number - 1);
  }
  return capacity;
}

std::vector<IpPrefix> choose_addresses(const AddressPolicy& policy, std::string_view host, unsigned device_index,
                                       unsigned devices_per_node) {
  if (policy.inherit || policy.ranges.empty()) return {};
  const auto node = node_number(policy.nodes, host);
  if (!node) {
    throw Error(ErrorCode::policy, fmt::format("no address for node '{}'", host),
                fmt::format("nodes = \"{}\" does not list it", policy.nodes), "add it at the end of the list");
  }
  if (device_index >= devices_per_node) {
    throw Error(ErrorCode::internal, fmt::format("no address for device {} of node '{}'", device_index, host),
                fmt::format("the node has {} devices", devices_per_node));
  }
  const std::uint64_t number = std::uint64_t{*node} * devices_per_node + device_index + 1;
  std::vector<IpPrefix> addresses;
  for (const IpPrefix& range : policy.ranges) {
    if (number > host_capacity(range)) {
      throw Error(ErrorCode::policy, fmt::format("no address left in {} for node '{}'", to_string(range), host),
                  fmt::format("device {} of node number {} with {} devices per node needs the {}th address",
                              device_index, *node, devices_per_node, number),
                  "give the pool a larger range, or fewer berths");
    }
    addresses.push_back(make_address(range, number));
  }
  return addresses;
}

}  // namespace berth
