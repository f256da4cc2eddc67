// Value types that every part speaks in. All are regular: default constructible, comparable, cheap to copy.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// A PCI function as sysfs names it, "0000:3b:02.1". Domains wider than 16 bits exist (VMD: "10000:00:00.0").
struct PciAddress {
  std::uint32_t domain = 0;
  std::uint8_t bus = 0;
  std::uint8_t device = 0;
  std::uint8_t function = 0;
  auto operator<=>(const PciAddress&) const = default;
};
/// Accepts upper and lower case, and "bb:dd.f" without a domain; anything else is nullopt.
std::optional<PciAddress> parse_pci_address(std::string_view text);
std::string to_string(const PciAddress& address);

/// A set of logical CPUs (or NUMA nodes) by their operating system number.
class CpuSet {
 public:
  CpuSet() = default;
  static CpuSet range(unsigned first, unsigned last);

  void add(unsigned cpu);
  void remove(unsigned cpu);
  [[nodiscard]] bool contains(unsigned cpu) const;
  [[nodiscard]] unsigned count() const;
  [[nodiscard]] bool empty() const { return words_.empty(); }
  [[nodiscard]] std::optional<unsigned> first() const;
  [[nodiscard]] std::vector<unsigned> to_vector() const;
  [[nodiscard]] bool is_subset_of(const CpuSet& other) const;
  [[nodiscard]] bool intersects(const CpuSet& other) const;

  CpuSet& operator|=(const CpuSet& other);
  CpuSet& operator&=(const CpuSet& other);
  CpuSet& operator-=(const CpuSet& other);
  friend CpuSet operator|(CpuSet a, const CpuSet& b) { return a |= b; }
  friend CpuSet operator&(CpuSet a, const CpuSet& b) { return a &= b; }
  friend CpuSet operator-(CpuSet a, const CpuSet& b) { return a -= b; }
  bool operator==(const CpuSet&) const = default;

 private:
  void trim();                        // keeps equal sets equal: no trailing zero words
  std::vector<std::uint64_t> words_;  // bit n of word w is CPU 64 w + n
};
/// Highest CPU number that is accepted; the kernel's own limit is 8192, so that "0-99999999" cannot eat memory.
constexpr unsigned kMaxCpu = 65535;
/// The kernel's list format, "0-3,8,10-11"; surrounding white space and an empty list are fine.
std::optional<CpuSet> parse_cpu_list(std::string_view text);
/// The inverse of parse_cpu_list; "" for the empty set.
std::string to_string(const CpuSet& cpus);

using MacAddress = std::array<std::uint8_t, 6>;
std::optional<MacAddress> parse_mac_address(std::string_view text);
std::string to_string(const MacAddress& mac);

/// An IPv4 or IPv6 address with the length of its network prefix.
struct IpPrefix {
  enum class Family : std::uint8_t { v4, v6 };
  Family family = Family::v4;
  std::array<std::uint8_t, 16> bytes{};  ///< network byte order; IPv4 uses the first four
  std::uint8_t prefix_length = 0;        ///< bits
  auto operator<=>(const IpPrefix&) const = default;
};
/// "10.1.2.3/16" or "fd00::1/64"; the prefix length is required.
std::optional<IpPrefix> parse_ip_prefix(std::string_view text);
std::string to_string(const IpPrefix& address);
/// The address alone, without "/16".
std::string address_to_string(const IpPrefix& address);

/// Name of a network interface as the kernel accepts it: 1..15 bytes, no '/', ':', white space or '%', not "." or "..".
/// Control characters, which the kernel would take, are refused as well.
bool is_interface_name(std::string_view name);

/// `text` as an absolute path without ".", repeated or trailing slashes; nullopt if it is relative, or has ".." or NUL.
std::optional<std::string> parse_absolute_path(std::string_view text);

/// Whether `path` (absolute, without symlinks or "..") lies below `directory` or is it, compared by whole components.
bool is_within(std::string_view path, std::string_view directory);

/// The known word nearest to `word`, for "did you mean": nullopt if none is close (edit distance, with a
/// swap of two neighbours counted once, over a third of the longer word).
std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known);

/// Numbers that Slurm has for steps with a name (slurm.h).
constexpr std::uint32_t kBatchStep = 0xfffffffbU;
constexpr std::uint32_t kExternStep = 0xfffffffcU;
constexpr std::uint32_t kInteractiveStep = 0xfffffffaU;

}  // namespace berth
