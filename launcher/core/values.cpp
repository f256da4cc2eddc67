#include "launcher/core/values.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace berth {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

/// The whole of `text` as an unsigned number without sign or prefix; nullopt if it is anything else or too large.
template <typename Number>
std::optional<Number> parse_number(std::string_view text, int base) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (error != std::errc{} || stop != end || text.empty()) return std::nullopt;
  return number;
}

std::optional<std::uint8_t> parse_hex_byte(std::string_view two_digits) {
  if (two_digits.size() != 2) return std::nullopt;
  return parse_number<std::uint8_t>(two_digits, 16);
}

}  // namespace

std::optional<PciAddress> parse_pci_address(std::string_view text) {
  PciAddress address;
  constexpr std::size_t kShortForm = sizeof("bb:dd.f") - 1;
  if (text.size() > kShortForm) {
    const std::string_view domain = text.substr(0, text.size() - kShortForm);
    // Four digits, or up to eight without leading zeros: one spelling per address, as the kernel prints it.
    const std::size_t digits = domain.size() - 1;
    if (domain.back() != ':' || digits < 4 || digits > 8 || (digits > 4 && domain.front() == '0')) return std::nullopt;
    const auto number = parse_number<std::uint32_t>(domain.substr(0, digits), 16);
    if (!number) return std::nullopt;
    address.domain = *number;
    text.remove_prefix(domain.size());
  }
  if (text.size() != kShortForm || text[2] != ':' || text[5] != '.') return std::nullopt;
  const auto bus = parse_hex_byte(text.substr(0, 2));
  const auto device = parse_hex_byte(text.substr(3, 2));
  if (!bus || !device || *device > 0x1f || text[6] < '0' || text[6] > '7') return std::nullopt;
  address.bus = *bus;
  address.device = *device;
  address.function = static_cast<std::uint8_t>(text[6] - '0');
  return address;
}

std::string to_string(const PciAddress& address) {
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", address.domain, address.bus, address.device, address.function);
}

std::optional<CpuSet> parse_cpu_list(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return CpuSet{};
  text = text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);

  CpuSet cpus;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);

    const std::size_t dash = part.find('-');
    const auto low = parse_number<unsigned>(part.substr(0, dash), 10);
    const auto high = dash == std::string_view::npos ? low : parse_number<unsigned>(part.substr(dash + 1), 10);
    if (!low || !high || *low > *high || *high > kMaxCpu) return std::nullopt;
    cpus |= CpuSet::range(*low, *high);
  }
  return cpus;
}

std::string to_string(const CpuSet& cpus) {
  std::string text;
  const std::vector<unsigned> numbers = cpus.to_vector();
  for (std::size_t begin = 0; begin < numbers.size();) {
    std::size_t end = begin;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    if (!text.empty()) text += ',';
    text += begin == end ? fmt::format("{}", numbers[begin]) : fmt::format("{}-{}", numbers[begin], numbers[end]);
    begin = end + 1;
  }
  return text;
}

std::optional<MacAddress> parse_mac_address(std::string_view text) {
  MacAddress mac{};
  if (text.size() != mac.size() * 3 - 1) return std::nullopt;
  for (std::size_t index = 0; index < mac.size(); ++index) {
    if (index > 0 && text[index * 3 - 1] != ':') return std::nullopt;
    const auto byte = parse_hex_byte(text.substr(index * 3, 2));
    if (!byte) return std::nullopt;
    mac[index] = *byte;
  }
  return mac;
}

std::string to_string(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

std::optional<IpPrefix> parse_ip_prefix(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string_view length = text.substr(slash + 1);
  if (length.size() > 1 && length.front() == '0') return std::nullopt;  // "/08" may be meant as octal
  const auto bits = parse_number<std::uint8_t>(length, 10);
  if (!bits) return std::nullopt;

  IpPrefix prefix;
  prefix.prefix_length = *bits;
  const std::string address(text.substr(0, slash));
  const bool v6 = address.find(':') != std::string::npos;
  prefix.family = v6 ? IpPrefix::Family::v6 : IpPrefix::Family::v4;
  if (*bits > (v6 ? 128 : 32)) return std::nullopt;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, address.c_str(), prefix.bytes.data()) != 1) return std::nullopt;
  return prefix;
}

std::string address_to_string(const IpPrefix& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = address.family == IpPrefix::Family::v6 ? AF_INET6 : AF_INET;
  return inet_ntop(family, address.bytes.data(), text.data(), text.size());
}

std::string to_string(const IpPrefix& address) {
  return fmt::format("{}/{}", address_to_string(address), address.prefix_length);
}

bool is_interface_name(std::string_view name) {
  constexpr std::size_t kLongest = 15;  // IFNAMSIZ without the terminating zero
  if (name.empty() || name.size() > kLongest || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    // 0xa0 is white space to the kernel's isspace().
    return byte > ' ' && byte != 0x7f && byte != 0xa0 && c != '/' && c != ':' && c != '%';
  });
}

std::optional<std::string> parse_absolute_path(std::string_view text) {
  if (text.empty() || text.front() != '/' || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::string path;
  while (!text.empty()) {
    const std::size_t slash = text.find('/');
    const std::string_view component = text.substr(0, slash);
    if (component == "..") return std::nullopt;
    if (!component.empty() && component != ".") {
      path += '/';
      path += component;
    }
    text.remove_prefix(slash == std::string_view::npos ? text.size() : slash + 1);
  }
  return path.empty() ? "/" : path;
}

bool is_within(std::string_view path, std::string_view directory) {
  while (directory.ends_with('/')) directory.remove_suffix(1);
  if (path.empty() || path.front() != '/' || !path.starts_with(directory)) return false;
  return path.size() == directory.size() || path[directory.size()] == '/';
}

std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;  // no key or name is longer, and the distance takes quadratic time
  if (word.empty() || word.size() > kLongest) return std::nullopt;
  std::optional<std::string> nearest;
  std::size_t shortest = kLongest;
  for (const std::string& candidate : known) {
    if (candidate.size() > kLongest) continue;
    // Rows of the distance table: before the last, last, and current.
    std::vector<std::size_t> older(candidate.size() + 1);
    std::vector<std::size_t> last(candidate.size() + 1);
    std::vector<std::size_t> current(candidate.size() + 1);
    for (std::size_t column = 0; column <= candidate.size(); ++column) current[column] = column;
    for (std::size_t row = 1; row <= word.size(); ++row) {
      older.swap(last);
      last.swap(current);
      current[0] = row;
      for (std::size_t column = 1; column <= candidate.size(); ++column) {
        const std::size_t substituted = last[column - 1] + (word[row - 1] == candidate[column - 1] ? 0 : 1);
        current[column] = std::min({last[column] + 1, current[column - 1] + 1, substituted});
        const bool swapped =
            row > 1 && column > 1 && word[row - 1] == candidate[column - 2] && word[row - 2] == candidate[column - 1];
        if (swapped) current[column] = std::min(current[column], older[column - 2] + 1);
      }
    }
    const std::size_t distance = current[candidate.size()];
    if (distance * 3 <= std::max(word.size(), candidate.size()) && distance < shortest) {
      shortest = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace berth
