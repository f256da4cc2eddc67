#include "launcher/core/policy_rdma.hpp"

#include <fmt/core.h>

#include <limits>

namespace berth {
namespace {

RdmaMode parse_mode(const PolicySection& section, PoolKind kind) {
  const auto mode = section.choice("rdma", {RdmaMode::off, RdmaMode::exclusive, RdmaMode::shared});
  if (kind == PoolKind::usnic) {
    if (mode.value_or(RdmaMode::shared) != RdmaMode::shared)
      section.refuse("rdma",
                     "usNIC devices are seen from all network namespaces: their driver cannot move them, and they are "
                     "nothing without RDMA",
                     "leave 'rdma' out, and let the kernel be in mode shared: options ib_core netns_mode=1");
    return RdmaMode::shared;
  }
  if (!mode && kind == PoolKind::host)
    section.refuse("kind", "a pool in the host's network gives nothing but RDMA, and 'rdma' is missing",
                   "add rdma = \"shared\"");
  if (mode == RdmaMode::exclusive && kind != PoolKind::sriov)
    section.refuse("rdma", "only a VF has an RDMA device of its own that could move into a berth",
                   "write rdma = \"shared\"");
  if (mode == RdmaMode::off && kind == PoolKind::host)
    section.refuse("rdma", "a pool in the host's network gives nothing but RDMA", "write rdma = \"shared\"");
  return mode.value_or(RdmaMode::off);
}

std::optional<unsigned> parse_limit(const PolicySection& section, std::string_view key) {
  const auto number = section.number(key, 1, std::numeric_limits<std::int32_t>::max());
  return number ? std::optional(static_cast<unsigned>(*number)) : std::nullopt;
}

}  // namespace

std::vector<std::string> rdma_keys() {
  return {"rdma", "hca_handles", "hca_objects", "self_test", "device_rules", "selinux_label"};
}

RdmaSettings parse_rdma(const PolicySection& section, PoolKind kind) {
  RdmaSettings rdma;
  rdma.mode = parse_mode(section, kind);
  if (rdma.mode == RdmaMode::off) {
    for (const std::string& key : rdma_keys())
      if (key != "rdma" && section.has(key))
        section.refuse(key, fmt::format("'{}' is about RDMA devices, and the pool has none", key),
                       "add rdma = \"shared\" or rdma = \"exclusive\"");
    return rdma;
  }
  rdma.hca_handles = parse_limit(section, "hca_handles");
  rdma.hca_objects = parse_limit(section, "hca_objects");
  rdma.self_test = section.flag("self_test").value_or(true);
  rdma.device_rules = section.flag("device_rules").value_or(true);
  if (const auto label = section.string("selinux_label")) rdma.selinux_label = label->text;
  return rdma;
}

}  // namespace berth
