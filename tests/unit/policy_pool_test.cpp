// What the policy says of pools beyond names and addresses: RDMA, attributes of VFs, Slurm, placement.
#include <catch2/generators/catch_generators.hpp>

#include "tests/unit/policy_text.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("RDMA modes that a kind of pool cannot have", "[policy_pool]") {
  const std::string host = kHeader + "[[pool]]\nname = \"p\"\nkind = \"host\"\nparents = [\"mlx5_0\"]\nberths = 8\n";
  CHECK(refusal(kMacvlan + "rdma = \"exclusive\"\n") ==
        "7:8: [[pool]] \"p\": only a VF has an RDMA device of its own that could move into a berth | "
        "write rdma = \"shared\"");
  CHECK_THAT(refusal(host), ContainsSubstring("gives nothing but RDMA, and 'rdma' is missing | add rdma = \"shared\""));
  CHECK_THAT(refusal(host + "rdma = \"off\"\n"), ContainsSubstring("gives nothing but RDMA | write rdma = \"shared\""));
  CHECK_THAT(refusal(host + "rdma = \"exclusive\"\n"), ContainsSubstring("only a VF"));
  CHECK_THAT(refusal(host + "rdma = \"share\"\n"), ContainsSubstring("shared"));
  CHECK_THAT(refusal(host + "rdma = \"shared\"\naddresses = [\"10.0.0.0/16\"]\n"),
             ContainsSubstring("'addresses' makes no sense in the host's network"));
  CHECK(parse(host + "rdma = \"shared\"\n").pools.at(0).interface.empty());
  CHECK_THAT(refusal(kPool + "hca_objects = 100\n"), ContainsSubstring("'hca_objects' is about RDMA devices"));
  CHECK_THAT(refusal(kPool + "rdma = \"off\"\nself_test = true\n"), ContainsSubstring("'self_test' is about RDMA"));
  CHECK_THAT(refusal(kPool + "rdma = \"shared\"\nhca_handles = 0\n"), ContainsSubstring("hca_handles"));
}

TEST_CASE("VF attributes of a pool", "[policy_pool]") {
  const VfPolicy vf = parse(kPool + R"([pool.vf]
mac = "generate"
guid = "keep"
vlan = 7
vlan_qos = 3
vlan_protocol = "802.1ad"
min_rate = 100
max_rate = 1000
spoofchk = true
trust = false
link_state = "enable"
)")
                          .pools.at(0)
                          .vf;
  CHECK(vf.generate_mac);
  CHECK_FALSE(vf.generate_guid);
  CHECK(vf.attributes.vlan == VfVlan{7, 3, VlanProtocol::dot1ad});
  CHECK(vf.attributes.min_rate == 100U);
  CHECK(vf.attributes.max_rate == 1000U);
  CHECK(vf.attributes.spoofchk == true);
  CHECK(vf.attributes.trust == false);
  CHECK(vf.attributes.link_state == VfLinkState::enable);
  CHECK(parse(kPool).pools.at(0).vf == VfPolicy{});
  CHECK(parse(kPool + "vf = { vlan = 0 }\n").pools.at(0).vf.attributes.vlan == VfVlan{});

  const auto [text, message] = GENERATE(table<std::string, std::string>({
      {"vlan = 4095\n", "vlan = 4095 is not between 0 and 4094"},
      {"vlan_qos = 1\n", "'vlan_qos' is part of a VLAN tag, and there is no VLAN | add vlan"},
      {"vlan = 0\nvlan_protocol = \"802.1Q\"\n", "'vlan_protocol' is part of a VLAN tag"},
      {"vlan = 1\nvlan_protocol = \"802.1q\"\n", "vlan_protocol = \"802.1q\" is none of 802.1Q, 802.1ad"},
      {"mac = \"random\"\n", "mac = \"random\" is none of keep, generate"},
      {"min_rate = 2\nmax_rate = 1\n", "min_rate 2 is larger than max_rate 1"},
      {"link_state = \"up\"\n", "link_state = \"up\" is none of auto, enable, disable"},
      {"spoof = true\n", "unknown key 'spoof'"},
  }));
  CHECK_THAT(refusal(kPool + "[pool.vf]\n" + text), ContainsSubstring(message));
  CHECK_THAT(refusal(kMacvlan + "[pool.vf]\ntrust = true\n"), ContainsSubstring("only pools with kind = \"sriov\""));
}

TEST_CASE("A pool may be a generic resource of Slurm, and each one's own", "[policy_pool]") {
  const std::string pool = "[[pool]]\nname = \"{}\"\nkind = \"sriov\"\nparents = [\"eth2\"]\n";
  const auto named = [&](const std::string& name, const std::string& gres) {
    std::string text = pool;
    return text.replace(text.find("{}"), 2, name) + "gres = \"" + gres + "\"\n";
  };
  CHECK(parse(kHeader + named("fast", "vf")).pools[0].gres == "vf");
  CHECK(parse(kHeader + named("fast", "vf") + named("slow", "vf2")).pools[1].gres == "vf2");
  CHECK_THAT(refusal(kHeader + named("fast", "vf") + named("slow", "vf")),
             ContainsSubstring("pool \"fast\" has the generic resource \"vf\" already"));
  for (const char* name : {"vf:2", "vf,x", "none", "v f", "-vf"})
    CHECK_THAT(refusal(kHeader + named("fast", name)), ContainsSubstring("not a name for a generic resource"));
}

TEST_CASE("A pool says what counts first, and what happens when devices run out", "[policy_pool]") {
  const std::string pool = "version = 1\n[[pool]]\nname = \"fast\"\nkind = \"sriov\"\nparents = [\"eth1\"]\n";
  CHECK(parse_policy(pool, "p.toml").pools[0].order == PlacementOrder::locality);
  CHECK(parse_policy(pool, "p.toml").pools[0].shortage == Shortage::fail);
  const Policy policy = parse_policy(pool + "order = \"balance\"\nshortage = \"some\"\n", "p.toml");
  CHECK(policy.pools[0].order == PlacementOrder::balance);
  CHECK(policy.pools[0].shortage == Shortage::some);
  CHECK_THROWS_AS(parse_policy(pool + "order = \"best\"\n", "p.toml"), Error);
  CHECK_THROWS_AS(parse_policy(pool + "shortage = \"wait\"\n", "p.toml"), Error);
}

TEST_CASE("A pool of whole NICs", "[policy_pool]") {
  const std::string pool =
      kHeader + "[[pool]]\nname = \"port\"\nkind = \"pf\"\nparents = [\"0000:3b:00.0\", \"eth7\"]\n";
  const Pool nics = parse(pool).pools.at(0);
  CHECK(nics.kind == PoolKind::pf);
  CHECK(nics.park == Park::never);
  CHECK_THAT(refusal(pool + "berths = 2\n"), ContainsSubstring("'berths' makes no sense for a whole NIC"));
  CHECK_THAT(refusal(pool + "park = \"boot\"\n"), ContainsSubstring("'park' makes no sense for a whole NIC"));
  CHECK_THAT(refusal(pool + "rdma = \"shared\"\n"), ContainsSubstring("'rdma' makes no sense for a whole NIC"));
  CHECK_THAT(refusal(kHeader + "[[pool]]\nname = \"port\"\nkind = \"pf\"\nparents = [\"eth*\"]\n"),
             ContainsSubstring("each has to be named"));
}

TEST_CASE("What a usNIC pool must and must not say", "[policy_pool]") {
  const std::string usnic = kHeader + "[[pool]]\nname = \"p\"\nkind = \"usnic\"\nparents = [\"eth4\"]\n";
  const std::string range = "addresses = [\"10.0.0.0/16\"]\nnodes = \"n1\"\n";
  CHECK(refusal(usnic + range) == "accepted");
  CHECK(refusal(usnic + "addresses = \"inherit\"\n") == "accepted");
  CHECK(refusal(usnic + "vnic = \"shared\"\n") == "accepted");
  CHECK(refusal(usnic + "vnic = \"shared\"\nberths = 4\nqps_per_rank = 2\n") == "accepted");
  CHECK_THAT(refusal(kHeader + "[[pool]]\nname = \"p\"\nkind = \"usnic\"\nparents = [\"usnic_*\"]\n"),
             ContainsSubstring("each has to be named"));
  CHECK_THAT(refusal(usnic), ContainsSubstring("usNIC works only with an IPv4 address"));
  CHECK_THAT(refusal(usnic + "addresses = [\"fd77::/64\"]\nnodes = \"n1\"\n"), ContainsSubstring("IPv4 address"));
  CHECK_THAT(refusal(usnic + "addresses = [\"10.0.0.0/16\", \"10.1.0.0/16\"]\nnodes = \"n1\"\n"),
             ContainsSubstring("keeps one IPv4 address"));
  CHECK_THAT(refusal(usnic + range + "berths = 4\n"), ContainsSubstring("let ranks share: vnic = \"shared\""));
  CHECK_THAT(refusal(usnic + range + "rdma = \"exclusive\"\n"), ContainsSubstring("their driver cannot move them"));
  CHECK_THAT(refusal(usnic + range + "rdma = \"off\"\n"), ContainsSubstring("netns_mode=1"));
  CHECK_THAT(refusal(usnic + range + "vnic = \"both\"\n"), ContainsSubstring("own, shared"));
  CHECK_THAT(refusal(usnic + range + "qps_per_rank = 0\n"), ContainsSubstring("qps_per_rank"));
  CHECK_THAT(refusal(usnic + range + "[pool.vf]\nvlan = 7\n"), ContainsSubstring("only pools with kind = \"sriov\""));
  CHECK_THAT(refusal(usnic + "vnic = \"shared\"\ninterface = \"eth1\"\n"),
             ContainsSubstring("makes no sense in the host's network"));
  CHECK_THAT(refusal(kMacvlan + "vnic = \"own\"\n"), ContainsSubstring("'vnic' is about usNIC"));
}
