#include "launcher/core/gres.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "launcher/core/error.hpp"
#include "launcher/core/plan.hpp"

namespace berth {
namespace {

[[noreturn]] void refuse(std::string_view text) {
  throw Error(ErrorCode::host, "cannot understand which generic resources Slurm gave the job",
              fmt::format("'{}' is not of the form NAME:COUNT(IDX:LIST)", text));
}

unsigned parse_count(std::string_view digits, std::string_view text) {
  unsigned count = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (error != std::errc{} || end != digits.data() + digits.size()) refuse(text);
  return count;
}

/// "vf:fast:2(IDX:0-1)", "vf:2(IDX:0,3)" or "vf(CNT:2)".
GresGrant parse_one(std::string_view text) {
  const std::size_t open = text.find('(');
  if (open == std::string_view::npos || text.back() != ')') refuse(text);
  const std::string_view head = text.substr(0, open);
  const std::string_view detail = text.substr(open + 1, text.size() - open - 2);
  GresGrant grant;
  grant.name = head.substr(0, head.find(':'));
  if (grant.name.empty()) refuse(text);
  if (detail.starts_with("CNT:")) {
    grant.count = parse_count(detail.substr(4), text);
    return grant;
  }
  if (!detail.starts_with("IDX:")) refuse(text);
  grant.indexes = detail == "IDX:N/A" ? CpuSet() : parse_cpu_list(detail.substr(4));
  if (!grant.indexes) refuse(text);
  grant.count = grant.indexes->count();
  return grant;
}

/// The logical numbers of the cores that have one of `cpus`.
CpuSet cores_of(const Topology& topology, const CpuSet& cpus) {
  CpuSet cores;
  for (unsigned core = 0; core < topology.cores.size(); ++core)
    if (topology.cores[core].intersects(cpus)) cores.add(core);
  return cores;
}

/// What exists as long as the device can be made or moved, whether or not it is parked.
std::string file_of(const BerthSpec& berth) {
  if (berth.pci) return "/sys/bus/pci/devices/" + to_string(*berth.pci);
  return (berth.kind == PoolKind::host ? "/sys/class/infiniband/" : "/sys/class/net/") + berth.parent;
}

/// So that no line of gres.conf becomes longer than people can read.
constexpr std::size_t kMostFiles = 8;

}  // namespace

std::vector<GresGrant> parse_gres(std::string_view text) {
  std::vector<GresGrant> grants;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(')'), text.size() - 1) + 1;  // commas also separate indexes
    const GresGrant grant = parse_one(text.substr(0, end));
    text.remove_prefix(end);
    if (!text.empty() && text.front() != ',') refuse(text);
    if (!text.empty()) text.remove_prefix(1);
    const auto known = std::ranges::find(grants, grant.name, &GresGrant::name);
    if (known == grants.end()) {
      grants.push_back(grant);
      continue;
    }
    known->count += grant.count;
    if (known->indexes && grant.indexes) {
      *known->indexes |= *grant.indexes;
    } else {
      known->indexes.reset();
    }
  }
  return grants;
}

std::vector<GresLine> make_gres_lines(const Pool& pool, const Inventory& inventory) {
  std::vector<GresLine> lines;
  for (const Candidate& device : make_candidates(pool, inventory)) {
    std::string file = file_of(device.berth);
    CpuSet cores = cores_of(inventory.topology, device.local_cpus);
    if (lines.empty() || lines.back().cores != cores || lines.back().files.size() == kMostFiles)
      lines.push_back({pool.gres, {}, std::move(cores)});
    lines.back().files.push_back(std::move(file));
  }
  // Slurm wants cores for all devices of a resource or for none.
  CpuSet all;
  for (unsigned core = 0; core < inventory.topology.cores.size(); ++core) all.add(core);
  const bool some_place =
      std::ranges::any_of(lines, [&](const GresLine& line) { return !line.cores.empty() && line.cores != all; });
  for (GresLine& line : lines) {
    if (!some_place) line.cores = {};
    if (some_place && line.cores.empty()) line.cores = all;
  }
  return lines;
}

std::string to_string(const GresLine& line) {
  return fmt::format("Name={} File={}{}", line.name, fmt::join(line.files, ","),
                     line.cores.empty() ? "" : " Cores=" + to_string(line.cores));
}

}  // namespace berth
