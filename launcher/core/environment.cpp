#include "launcher/core/environment.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "launcher/core/usnic.hpp"

namespace berth {
namespace {

using Environment = std::map<std::string, std::string>;

/// A variable that makes one library use the device.
struct DeviceVariable {
  std::string_view name;
  std::string_view value;        ///< with placeholders (where it takes no list: the first device's alone); a row whose
                                 ///< placeholder has no value here is left out
  std::string_view excluded_by;  ///< a variable that must not be set together with this one
  // Of rows with one name the first counts that has a value.
};

/// The one table. docs/environment.md says where each row comes from, and which variables are left out, and why.
constexpr std::array kDeviceVariables = {
    DeviceVariable{"FI_PROVIDER", "{usnic_provider}", ""},
    DeviceVariable{"FI_SOCKETS_IFACE", "{interface}", ""},
    DeviceVariable{"FI_TCP_IFACE", "{interface}", ""},
    DeviceVariable{"GLOO_SOCKET_IFNAME", "{interfaces}", ""},
    DeviceVariable{"MPIR_CVAR_NEMESIS_TCP_NETWORK_IFACE", "{interface}", ""},
    DeviceVariable{"NCCL_IB_GID_INDEX", "{gid_index}", ""},
    DeviceVariable{"NCCL_SOCKET_IFNAME", "={interfaces}", ""},
    DeviceVariable{"OMPI_MCA_btl_tcp_if_include", "{interfaces}", "OMPI_MCA_btl_tcp_if_exclude"},
    DeviceVariable{"OMPI_MCA_btl_usnic_if_include", "{usnic}", "OMPI_MCA_btl_usnic_if_exclude"},
    DeviceVariable{"TP_SOCKET_IFNAME", "{interface}", ""},
    DeviceVariable{"UCX_IB_GID_INDEX", "{gid_index}", ""},
    DeviceVariable{"UCX_NET_DEVICES", "{rdma},{interfaces}", ""},
    DeviceVariable{"UCX_NET_DEVICES", "{rdma}", ""},
    DeviceVariable{"UCX_NET_DEVICES", "{interfaces}", ""},
};

/// What `text` says of each item, where it says anything, with commas.
template <typename Item, typename Text>
std::string join(const std::vector<Item>& items, const Text& text) {
  std::string joined;
  for (const Item& item : items)
    if (const std::string one = text(item); !one.empty()) joined += (joined.empty() ? "" : ",") + one;
  return joined;
}

std::string join_interfaces(const std::vector<BerthSpec>& berths) {
  return join(berths, [](const BerthSpec& berth) { return berth.interface; });
}

std::string gid_index(const RdmaGrant& rdma) { return rdma.gid_index ? fmt::format("{}", *rdma.gid_index) : ""; }

/// Libraries take one number for all devices: there is none where they differ.
std::string common_gid_index(const std::vector<RdmaGrant>& rdma) {
  const bool is_common =
      std::ranges::all_of(rdma, [&](const RdmaGrant& grant) { return grant.gid_index == rdma.front().gid_index; });
  return rdma.empty() || !is_common ? std::string{} : gid_index(rdma.front());
}

/// `text` with every placeholder replaced; nullopt if one has no value on `berths`.
std::optional<std::string> fill(std::string_view text, const std::vector<BerthSpec>& berths,
                                const std::vector<RdmaGrant>& rdma) {
  const auto is_usnic = [](const RdmaGrant& grant) { return is_usnic_name(grant.device); };
  const std::string usnic =
      join(rdma, [&](const RdmaGrant& grant) { return is_usnic(grant) ? grant.device : std::string{}; });
  const std::array<std::pair<std::string_view, std::string>, 6> values = {
      {{"{interface}", berths.empty() ? "" : berths.front().interface},
       {"{interfaces}", join_interfaces(berths)},
       // UCX has no transport for usNIC, and complains of devices that it does not know.
       {"{rdma}",
        join(rdma, [&](const RdmaGrant& grant) { return is_usnic(grant) ? std::string{} : port_name(grant); })},
       {"{usnic}", usnic},
       {"{usnic_provider}", usnic.empty() ? "" : "usnic"},
       {"{gid_index}", common_gid_index(rdma)}}};
  std::string filled(text);
  for (const auto& [placeholder, value] : values) {
    const std::size_t position = filled.find(placeholder);
    if (position == std::string::npos) continue;
    if (value.empty()) return std::nullopt;
    filled.replace(position, placeholder.size(), value);
  }
  return filled;
}

/// `value` with each ${NAME} replaced by that variable of `current`, or by nothing.
std::string expand(std::string_view value, const Environment& current) {
  std::string expanded;
  while (!value.empty()) {
    const std::size_t begin = value.find("${");
    const std::size_t end = begin == std::string_view::npos ? begin : value.find('}', begin);
    if (end == std::string_view::npos) break;
    expanded += value.substr(0, begin);
    const auto variable = current.find(std::string(value.substr(begin + 2, end - begin - 2)));
    if (variable != current.end()) expanded += variable->second;
    value.remove_prefix(end + 1);
  }
  return expanded.append(value);
}

void apply_change(Environment& environment, const EnvironmentChange& change) {
  if (change.action == EnvironmentChange::Action::unset) {
    environment.erase(change.name);
    return;
  }
  std::string& value = environment[change.name];
  // An empty element of a search path means the current directory, so no ':' next to nothing.
  if (change.action == EnvironmentChange::Action::set || value.empty()) {
    value = change.value;
  } else if (change.value.empty()) {
    return;
  } else if (change.action == EnvironmentChange::Action::prepend) {
    value = change.value + ':' + value;
  } else {
    value += ':' + change.value;
  }
}

std::vector<BerthSpec> specs_of(const NodePlan& plan, const RankPlan& rank) {
  std::vector<BerthSpec> berths;
  for (const std::size_t berth : berths_of(plan, rank)) berths.push_back(plan.berths.at(berth));
  return berths;
}

bool mentions(const std::vector<EnvironmentChange>& changes, std::string_view name) {
  return std::any_of(changes.begin(), changes.end(), [&](const EnvironmentChange& change) {
    return change.name == name && change.action != EnvironmentChange::Action::unset;
  });
}

std::string_view excluding_variable(std::string_view name) {
  for (const DeviceVariable& row : kDeviceVariables) {
    if (row.name == name) return row.excluded_by;
  }
  return "";
}

}  // namespace

std::vector<EnvironmentChange> device_environment(const std::vector<BerthSpec>& berths,
                                                  const std::vector<RdmaGrant>& rdma) {
  std::vector<EnvironmentChange> changes;
  for (const DeviceVariable& row : kDeviceVariables) {
    if (mentions(changes, row.name)) continue;
    if (auto value = fill(row.value, berths, rdma)) {
      changes.push_back({EnvironmentChange::Action::set, std::string(row.name), std::move(*value)});
    }
  }
  return changes;
}

std::vector<EnvironmentChange> fact_environment(const NodePlan& plan, const RankPlan& rank,
                                                const std::vector<RdmaGrant>& rdma) {
  const std::vector<BerthSpec> berths = specs_of(plan, rank);
  const auto addresses_of = [](const BerthSpec& berth) {
    std::string addresses;
    for (const IpPrefix& address : berth.addresses)
      addresses += (addresses.empty() ? "" : ",") + address_to_string(address);
    return addresses;
  };
  const auto set = [](std::string name, std::string value) {
    return EnvironmentChange{EnvironmentChange::Action::set, std::move(name), std::move(value)};
  };
  return {
      set("BERTH_ADDRESS", join(berths, addresses_of)),
      set("BERTH_CPUS", to_string(rank.cpus)),
      set("BERTH_DEVICE", join(berths, [](const BerthSpec& berth) { return berth.id; })),
      set("BERTH_INTERFACE", join_interfaces(berths)),
      set("BERTH_NUMA_NODE", rank.numa_node ? fmt::format("{}", *rank.numa_node) : ""),
      set("BERTH_POOL", plan.pool),
      set("BERTH_RANK", fmt::format("{}", rank.rank)),
      set("BERTH_RDMA_DEVICE", join(rdma, [](const RdmaGrant& grant) { return grant.device; })),
      set("BERTH_RDMA_GID_INDEX", join(rdma, gid_index)),
  };
}

RankEnvironment make_rank_environment(const NodePlan& plan, const RankPlan& rank, const Policy& policy,
                                      const Request& request, const std::vector<RdmaGrant>& rdma) {
  return {.defaults = rank.berth ? device_environment(specs_of(plan, rank), rdma) : std::vector<EnvironmentChange>{},
          .facts = fact_environment(plan, rank, rdma),
          .site = policy.environment,
          .user = request.environment};
}

std::vector<EnvironmentChange> resolve_environment(const Environment& current, const RankEnvironment& rank) {
  Environment environment = current;
  for (const EnvironmentChange& change : rank.defaults) {
    const std::string excluding(excluding_variable(change.name));
    const bool excluded =
        current.count(excluding) > 0 || mentions(rank.site, excluding) || mentions(rank.user, excluding);
    if (!excluded) environment.try_emplace(change.name, change.value);
  }
  for (const EnvironmentChange& change : rank.facts) apply_change(environment, change);
  for (EnvironmentChange change : rank.site) {
    change.value = expand(change.value, current);
    apply_change(environment, change);
  }
  for (const EnvironmentChange& change : rank.user) apply_change(environment, change);

  std::vector<EnvironmentChange> changes;
  for (const auto& [name, value] : environment) {
    const auto before = current.find(name);
    if (before == current.end() || before->second != value) {
      changes.push_back({EnvironmentChange::Action::set, name, value});
    }
  }
  for (const auto& [name, value] : current) {
    if (environment.count(name) == 0) changes.push_back({EnvironmentChange::Action::unset, name, ""});
  }
  return changes;
}

}  // namespace berth
