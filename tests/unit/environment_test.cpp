#include "launcher/core/environment.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

using namespace berth;
using Environment = std::map<std::string, std::string>;
using Action = EnvironmentChange::Action;

namespace {

NodePlan plan_with_berth() {
  BerthSpec berth;
  berth.id = "pf0.mv3";
  berth.interface = "rdma0";
  berth.addresses = {parse_ip_prefix("10.77.0.4/16").value(), parse_ip_prefix("fd77::4/64").value()};
  RankPlan rank;
  rank.rank = 5;
  rank.berth = 0;
  rank.cpus = CpuSet::range(4, 7);
  rank.numa_node = 1;
  NodePlan plan;
  plan.host = "n1";
  plan.pool = "fast";
  plan.berths = {berth};
  plan.ranks = {rank};
  return plan;
}

/// What the launcher does to the environment `current` of the plan's first rank.
std::vector<EnvironmentChange> changes_of(const Environment& current, const NodePlan& plan, const Policy& policy = {},
                                          const Request& request = {}) {
  return resolve_environment(current, make_rank_environment(plan, plan.ranks.at(0), policy, request));
}

/// `current` after those changes, which may only set and unset, each name once.
Environment environment_of(Environment current, const NodePlan& plan, const Policy& policy = {},
                           const Request& request = {}) {
  std::vector<std::string> names;
  for (const auto& change : changes_of(current, plan, policy, request)) {
    CHECK((change.action == Action::set || change.action == Action::unset));
    names.push_back(change.name);
    if (change.action == Action::set) {
      current[change.name] = change.value;
    } else {
      CHECK(current.erase(change.name) == 1);
    }
  }
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
  return current;
}

}  // namespace

TEST_CASE("Every library is pointed at the interface", "[environment]") {
  const Environment expected = {
      {"FI_SOCKETS_IFACE", "rdma0"},    {"FI_TCP_IFACE", "rdma0"},
      {"GLOO_SOCKET_IFNAME", "rdma0"},  {"MPIR_CVAR_NEMESIS_TCP_NETWORK_IFACE", "rdma0"},
      {"NCCL_SOCKET_IFNAME", "=rdma0"}, {"OMPI_MCA_btl_tcp_if_include", "rdma0"},
      {"TP_SOCKET_IFNAME", "rdma0"},    {"UCX_NET_DEVICES", "rdma0"},
  };
  Environment actual;
  for (const auto& change : device_environment({plan_with_berth().berths[0]})) {
    CHECK(change.action == Action::set);
    CHECK(actual.emplace(change.name, change.value).second);
  }
  CHECK(actual == expected);
  CHECK(device_environment({BerthSpec{}}).empty());  // no interface, nothing to point at
}

TEST_CASE("Facts are always set", "[environment]") {
  NodePlan plan = plan_with_berth();
  const Environment facts = environment_of({}, plan);
  CHECK(facts.at("BERTH_DEVICE") == "pf0.mv3");
  CHECK(facts.at("BERTH_INTERFACE") == "rdma0");
  CHECK(facts.at("BERTH_ADDRESS") == "10.77.0.4,fd77::4");
  CHECK(facts.at("BERTH_POOL") == "fast");
  CHECK(facts.at("BERTH_CPUS") == "4-7");
  CHECK(facts.at("BERTH_NUMA_NODE") == "1");
  CHECK(facts.at("BERTH_RANK") == "5");

  plan.ranks[0].berth.reset();
  plan.ranks[0].numa_node.reset();
  plan.pool.clear();
  const Environment host = environment_of({{"BERTH_DEVICE", "stale"}}, plan);
  CHECK(host == Environment{{"BERTH_ADDRESS", ""},
                            {"BERTH_CPUS", "4-7"},
                            {"BERTH_DEVICE", ""},
                            {"BERTH_INTERFACE", ""},
                            {"BERTH_NUMA_NODE", ""},
                            {"BERTH_POOL", ""},
                            {"BERTH_RANK", "5"},
                            {"BERTH_RDMA_DEVICE", ""},
                            {"BERTH_RDMA_GID_INDEX", ""}});
}

TEST_CASE("A variable that the user set wins over the device's", "[environment]") {
  const Environment result = environment_of({{"UCX_NET_DEVICES", "all"}, {"FI_TCP_IFACE", ""}}, plan_with_berth());
  CHECK(result.at("UCX_NET_DEVICES") == "all");
  CHECK(result.at("FI_TCP_IFACE").empty());
  CHECK(result.at("NCCL_SOCKET_IFNAME") == "=rdma0");
}

TEST_CASE("A list of excluded interfaces replaces the list of included ones", "[environment]") {
  const std::string include = "OMPI_MCA_btl_tcp_if_include";
  const std::string exclude = "OMPI_MCA_btl_tcp_if_exclude";
  Policy policy;
  Request request;
  CHECK(environment_of({}, plan_with_berth()).count(include) == 1);
  CHECK(environment_of({{exclude, "lo"}}, plan_with_berth()).count(include) == 0);
  request.environment = {{Action::set, exclude, "lo"}};
  CHECK(environment_of({}, plan_with_berth(), policy, request).count(include) == 0);
  request.environment = {{Action::unset, exclude, ""}};
  CHECK(environment_of({}, plan_with_berth(), policy, request).count(include) == 1);
  policy.environment = {{Action::set, exclude, "lo"}};
  CHECK(environment_of({}, plan_with_berth(), policy).count(include) == 0);
}

TEST_CASE("Policy goes over facts and devices, the request over the policy", "[environment]") {
  Policy policy;
  policy.environment = {{Action::set, "UCX_NET_DEVICES", "site"},
                        {Action::set, "BERTH_POOL", "site"},
                        {Action::set, "A", "site"},
                        {Action::unset, "B", ""},
                        {Action::unset, "NCCL_SOCKET_IFNAME", ""}};
  Request request;
  request.environment = {
      {Action::set, "A", "user"}, {Action::set, "B", "user"}, {Action::unset, "UCX_NET_DEVICES", ""}};
  const Environment result = environment_of({{"B", "old"}, {"C", "kept"}}, plan_with_berth(), policy, request);
  CHECK(result.at("A") == "user");
  CHECK(result.at("B") == "user");
  CHECK(result.at("C") == "kept");
  CHECK(result.at("BERTH_POOL") == "site");
  CHECK(result.count("UCX_NET_DEVICES") == 0);
  CHECK(result.count("NCCL_SOCKET_IFNAME") == 0);
}

TEST_CASE("Prepend and append join with a colon, but not with nothing", "[environment]") {
  Policy policy;
  policy.environment = {{Action::prepend, "PATH", "/first"}, {Action::append, "PATH", "/last"},
                        {Action::prepend, "NEW", "/a"},      {Action::append, "NEW", "/b"},
                        {Action::append, "EMPTY", "/c"},     {Action::append, "KEPT", "${NOTHING}"}};
  const Environment result =
      environment_of({{"PATH", "/bin"}, {"EMPTY", ""}, {"KEPT", "/k"}}, plan_with_berth(), policy);
  CHECK(result.at("PATH") == "/first:/bin:/last");
  CHECK(result.at("NEW") == "/a:/b");
  CHECK(result.at("EMPTY") == "/c");
  CHECK(result.at("KEPT") == "/k");
}

TEST_CASE("References of the policy mean the job's environment, those of the user nothing", "[environment]") {
  Policy policy;
  policy.environment = {{Action::set, "USER", "changed"},
                        {Action::set, "A", "/scratch/${USER}/${USER}${MISSING}/$USER"},
                        {Action::set, "B", "${NESTED}"}};
  Request request;
  request.environment = {{Action::set, "C", "${USER}"}};
  const Environment result =
      environment_of({{"USER", "alice"}, {"NESTED", "${USER}"}}, plan_with_berth(), policy, request);
  CHECK(result.at("A") == "/scratch/alice/alice/$USER");
  CHECK(result.at("B") == "${USER}");  // values are not expanded again
  CHECK(result.at("C") == "${USER}");
}

TEST_CASE("Only what changes is listed", "[environment]") {
  const NodePlan plan = plan_with_berth();
  const Environment once = environment_of({{"A", "1"}}, plan);
  CHECK(changes_of(once, plan).empty());
  Policy policy;
  policy.environment = {{Action::unset, "MISSING", ""}, {Action::set, "A", "1"}};
  CHECK(changes_of(once, plan, policy).empty());
}

TEST_CASE("With an RDMA device UCX gets both, and programs are told its name", "[environment]") {
  const auto value_of = [](const std::vector<EnvironmentChange>& changes, const std::string& name) {
    std::vector<std::string> values;
    for (const auto& change : changes)
      if (change.name == name) values.push_back(change.value);
    return values;
  };
  using Values = std::vector<std::string>;
  NodePlan plan = plan_with_berth();
  std::vector<RdmaGrant> rdma(1);
  rdma[0].device = "mlx5_3";
  CHECK(value_of(device_environment({plan.berths[0]}, rdma), "UCX_NET_DEVICES") == Values{"mlx5_3:1,rdma0"});
  CHECK(value_of(device_environment({plan.berths[0]}, rdma), "UCX_IB_GID_INDEX").empty());
  CHECK(value_of(fact_environment(plan, plan.ranks[0], rdma), "BERTH_RDMA_DEVICE") == Values{"mlx5_3"});
  CHECK(value_of(fact_environment(plan, plan.ranks[0], rdma), "BERTH_RDMA_GID_INDEX") == Values{""});
  CHECK(value_of(fact_environment(plan, plan.ranks[0]), "BERTH_RDMA_DEVICE") == Values{""});

  rdma[0].gid_index = 0;  // a table with GIDs of others
  CHECK(value_of(device_environment({plan.berths[0]}, rdma), "UCX_IB_GID_INDEX") == Values{"0"});
  CHECK(value_of(device_environment({plan.berths[0]}, rdma), "NCCL_IB_GID_INDEX") == Values{"0"});
  CHECK(value_of(fact_environment(plan, plan.ranks[0], rdma), "BERTH_RDMA_GID_INDEX") == Values{"0"});
  rdma[0].gid_index.reset();

  plan.berths[0].interface.clear();  // a share of a device in the host's network
  CHECK(value_of(device_environment({plan.berths[0]}, rdma), "UCX_NET_DEVICES") == Values{"mlx5_3:1"});
  CHECK(device_environment({plan.berths[0]}, rdma).size() == 1);
}

TEST_CASE("A rank with several devices gets lists where libraries take them", "[environment]") {
  NodePlan plan = plan_with_berth();
  plan.berths.push_back(plan.berths[0]);
  plan.berths[1].id = "pf1.mv0";
  plan.berths[1].joins = plan.berths[0].id;
  plan.berths[1].interface = "rdma1";
  plan.berths[1].addresses = {parse_ip_prefix("10.78.0.4/16").value()};
  plan.berths.push_back(plan.berths[0]);  // another rank's
  plan.berths[2].id = "pf0.mv9";
  std::vector<RdmaGrant> rdma(2);
  rdma[0].device = "mlx5_3";
  rdma[0].gid_index = 3;
  rdma[1].device = "mlx5_8";
  rdma[1].gid_index = 5;
  const auto make = [&] {
    Environment set;
    for (const EnvironmentChange& change :
         resolve_environment({}, make_rank_environment(plan, plan.ranks[0], {}, {}, rdma)))
      set[change.name] = change.value;
    return set;
  };
  const Environment environment = make();
  CHECK(environment.at("UCX_NET_DEVICES") == "mlx5_3:1,mlx5_8:1,rdma0,rdma1");
  CHECK(environment.at("NCCL_SOCKET_IFNAME") == "=rdma0,rdma1");
  CHECK(environment.at("OMPI_MCA_btl_tcp_if_include") == "rdma0,rdma1");
  CHECK(environment.at("FI_TCP_IFACE") == "rdma0");
  CHECK(environment.at("BERTH_DEVICE") == "pf0.mv3,pf1.mv0");
  CHECK(environment.at("BERTH_INTERFACE") == "rdma0,rdma1");
  CHECK(environment.at("BERTH_ADDRESS") == "10.77.0.4,fd77::4,10.78.0.4");
  CHECK(environment.at("BERTH_RDMA_DEVICE") == "mlx5_3,mlx5_8");
  CHECK(environment.at("BERTH_RDMA_GID_INDEX") == "3,5");
  CHECK_FALSE(environment.contains("UCX_IB_GID_INDEX"));  // one number for all, and these differ
  rdma[1].gid_index = 3;
  CHECK(make().at("UCX_IB_GID_INDEX") == "3");
}

TEST_CASE("With a usNIC libfabric and Open MPI are told of it, and UCX, which cannot use it, is not", "[environment]") {
  const NodePlan plan = plan_with_berth();
  std::vector<RdmaGrant> rdma(1);
  rdma[0].device = "usnic_1";
  const auto environment = [&](Environment current) {
    for (const auto& change : resolve_environment(current, {device_environment(plan.berths, rdma), {}, {}, {}}))
      current[change.name] = change.value;
    return current;
  };
  CHECK(environment({}).at("FI_PROVIDER") == "usnic");
  CHECK(environment({}).at("OMPI_MCA_btl_usnic_if_include") == "usnic_1");
  CHECK(environment({}).at("UCX_NET_DEVICES") == "rdma0");
  CHECK(environment({{"FI_PROVIDER", "tcp"}}).at("FI_PROVIDER") == "tcp");
  CHECK(environment({{"OMPI_MCA_btl_usnic_if_exclude", "usnic_0"}}).count("OMPI_MCA_btl_usnic_if_include") == 0);
  rdma[0].device = "mlx5_3";
  CHECK(environment({}).count("FI_PROVIDER") == 0);
}
