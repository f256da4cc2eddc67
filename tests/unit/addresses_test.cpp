#include "launcher/core/addresses.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "tests/error_of.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using Hosts = std::vector<std::string>;

namespace {

AddressPolicy ranges(const std::vector<std::string>& prefixes, std::string nodes) {
  AddressPolicy policy;
  for (const std::string& prefix : prefixes) policy.ranges.push_back(parse_ip_prefix(prefix).value());
  policy.nodes = std::move(nodes);
  return policy;
}

Hosts texts(const std::vector<IpPrefix>& addresses) {
  Hosts texts;
  for (const IpPrefix& address : addresses) texts.push_back(to_string(address));
  return texts;
}

std::string refusal(const auto& call) {
  const Error error = testing::error_of(call);
  CHECK(error.code == ErrorCode::policy);
  return error.render();
}

}  // namespace

TEST_CASE("Hostlists expand in order", "[addresses]") {
  CHECK(expand_hostlist("login1") == Hosts{"login1"});
  CHECK(expand_hostlist("n[001-003,7],login1") == Hosts{"n001", "n002", "n003", "n7", "login1"});
  CHECK(expand_hostlist("n[8-11]") == Hosts{"n8", "n9", "n10", "n11"});
  CHECK(expand_hostlist("n[98-101]x") == Hosts{"n98x", "n99x", "n100x", "n101x"});
  CHECK(expand_hostlist("n[09-11]") == Hosts{"n09", "n10", "n11"});
  CHECK(expand_hostlist("r[1-2]n[1-2]") == Hosts{"r1n1", "r1n2", "r2n1", "r2n2"});
  CHECK(expand_hostlist("[1-2]") == Hosts{"1", "2"});
  CHECK(expand_hostlist("n[0-65535]").size() == 65536);
}

TEST_CASE("Bad hostlists", "[addresses]") {
  const std::string text =
      GENERATE(as<std::string>{}, "", ",", "a,", ",a", "a,,b", "n[", "n[]", "n[1", "n]1", "n[1-]", "n[-1]", "n[2-1]",
               "n[001-3]", "n[1-2]]", "n[1[2]]", "n[a-b]", "n[1,]", "n 1", "n[1-2", "n[1 -2]", "n/1", "n[0-65536]",
               "n[0-65535],m", "n[0-9999999999]", "a[1-2]b[1-2]c[1-2]d[1-2]e[1-2]", "a[0-999999999]b[0-999999999]");
  CAPTURE(text);
  CHECK_THAT(refusal([&] { expand_hostlist(text); }), ContainsSubstring("cannot use the hostlist"));
  CHECK_THAT(refusal([&] { (void)node_number(text, "n1"); }), ContainsSubstring("cannot use the hostlist"));
}

TEST_CASE("A node's number is its position in the expanded list", "[addresses]") {
  for (const char* list :
       {"n[001-003,7],login1", "r[1-3]n[08-12],x,[5-6]", "n[1-12,012-013],n[20-22]m", "a[1-3][1-3]"}) {
    const Hosts hosts = expand_hostlist(list);
    std::set<std::string> seen;
    for (std::size_t index = 0; index < hosts.size(); ++index) {
      CAPTURE(list, hosts[index]);
      if (seen.insert(hosts[index]).second) CHECK(node_number(list, hosts[index]) == index);
    }
  }
}

TEST_CASE("Nodes that are not listed have no number", "[addresses]") {
  for (const char* host : {"n4", "n1", "n0001", "n002x", "xn002", "n", "", "login", "login12", "n-1"}) {
    CAPTURE(host);
    CHECK_FALSE(node_number("n[001-003,7],login1", host));
  }
}

TEST_CASE("A fully qualified name matches by its first label", "[addresses]") {
  CHECK(node_number("n[1-3]", "n2.cluster.example") == 1U);
  CHECK(node_number("n[1-3].a,n[1-3].b", "n2.b") == 4U);
  CHECK_FALSE(node_number("n[1-3]", "m2.n2"));
}

TEST_CASE("Addresses come from node number and device index", "[addresses]") {
  const AddressPolicy policy = ranges({"10.77.0.0/16", "fd77::/64"}, "n[1-100]");
  CHECK(texts(choose_addresses(policy, "n1", 0, 8)) == Hosts{"10.77.0.1/16", "fd77::1/64"});
  CHECK(texts(choose_addresses(policy, "n1", 7, 8)) == Hosts{"10.77.0.8/16", "fd77::8/64"});
  CHECK(texts(choose_addresses(policy, "n2", 0, 8)) == Hosts{"10.77.0.9/16", "fd77::9/64"});
  CHECK(texts(choose_addresses(policy, "n33", 0, 8)) == Hosts{"10.77.1.1/16", "fd77::101/64"});
  CHECK(texts(choose_addresses(policy, "n100.example", 7, 8)) == Hosts{"10.77.3.32/16", "fd77::320/64"});
}

TEST_CASE("All addresses of a cluster differ", "[addresses]") {
  const AddressPolicy policy = ranges({"10.0.0.0/22"}, "n[1-100]");
  std::set<std::string> seen;
  for (const std::string& host : expand_hostlist(policy.nodes)) {
    for (unsigned device = 0; device < 10; ++device) {
      CHECK(seen.insert(to_string(choose_addresses(policy, host, device, 10).at(0))).second);
    }
  }
  CHECK(seen.size() == 1000);
}

TEST_CASE("Host bits of a range are ignored, whatever its length", "[addresses]") {
  CHECK(texts(choose_addresses(ranges({"10.77.200.9/17"}, "a"), "a", 2, 4)) == Hosts{"10.77.128.3/17"});
  CHECK(texts(choose_addresses(ranges({"10.1.2.251/29"}, "a"), "a", 5, 6)) == Hosts{"10.1.2.254/29"});
  CHECK(texts(choose_addresses(ranges({"fd00:1:2:3:4:5:6:7/33"}, "a"), "a", 0, 1)) == Hosts{"fd00:1::1/33"});
  CHECK(texts(choose_addresses(ranges({"fd00::ffff/126"}, "a"), "a", 2, 3)) == Hosts{"fd00::ffff/126"});
  CHECK(texts(choose_addresses(ranges({"255.255.255.255/0"}, "a"), "a", 0, 1)) == Hosts{"0.0.0.1/0"});
}

TEST_CASE("Addresses that do not exist are refused", "[addresses]") {
  const AddressPolicy policy = ranges({"10.1.2.0/29"}, "n[1-3]");
  CHECK(texts(choose_addresses(policy, "n3", 1, 2)) == Hosts{"10.1.2.6/29"});
  CHECK_THAT(refusal([&] { choose_addresses(policy, "n3", 2, 3); }),
             ContainsSubstring("no address left in 10.1.2.0/29"));
  CHECK_THAT(refusal([&] { choose_addresses(policy, "n4", 0, 2); }), ContainsSubstring("does not list it"));
  CHECK_THAT(refusal([&] { choose_addresses(ranges({"10.1.2.0/32"}, "a"), "a", 0, 1); }),
             ContainsSubstring("no address left"));
  CHECK_THROWS_AS(choose_addresses(policy, "n1", 2, 2), Error);
}

TEST_CASE("Inherited or absent addresses need no node list", "[addresses]") {
  AddressPolicy inherit;
  inherit.inherit = true;
  CHECK(choose_addresses(inherit, "anything", 0, 1).empty());
  CHECK(choose_addresses(AddressPolicy{}, "anything", 0, 1).empty());
}

TEST_CASE("Capacity, membership and host numbers", "[addresses]") {
  const auto prefix = [](const char* text) { return parse_ip_prefix(text).value(); };
  CHECK(host_capacity(prefix("10.0.0.0/24")) == 254);
  CHECK(host_capacity(prefix("10.0.0.0/31")) == 0);
  CHECK(host_capacity(prefix("10.0.0.0/32")) == 0);
  CHECK(host_capacity(prefix("fd00::/120")) == 255);
  CHECK(host_capacity(prefix("fd00::/64")) == UINT64_MAX);
  CHECK(host_capacity(prefix("::/0")) == UINT64_MAX);
  CHECK(covers(prefix("10.77.0.0/16"), prefix("10.77.255.254/16")));
  CHECK_FALSE(covers(prefix("10.77.0.0/16"), prefix("10.78.0.1/16")));
  CHECK_FALSE(covers(prefix("10.0.0.0/25"), prefix("10.0.0.128/25")));
  CHECK_FALSE(covers(prefix("0.0.0.0/0"), prefix("::1/0")));
  CHECK(host_number(prefix("10.77.255.254/16"), 16) == 65534);
  CHECK(host_number(prefix("fd77::1:2/64"), 64) == 0x10002);
  CHECK(host_number(prefix("fd77::1:2/64"), 0) == UINT64_MAX);
}

TEST_CASE("Devices get the addresses before the gateway", "[addresses]") {
  const auto prefix = [](const char* text) { return parse_ip_prefix(text).value(); };
  const IpPrefix range = prefix("10.77.0.0/16");
  CHECK(device_capacity(range, {}) == 65534);
  CHECK(device_capacity(range, {prefix("10.77.255.254/16")}) == 65533);
  CHECK(device_capacity(range, {prefix("10.77.1.0/16"), prefix("10.77.2.0/16")}) == 255);
  CHECK(device_capacity(range, {prefix("10.77.0.1/16")}) == 0);
  CHECK(device_capacity(range, {prefix("10.77.0.0/16")}) == 0);
  CHECK(device_capacity(range, {prefix("10.78.0.1/16"), prefix("fd00::1/64")}) == 65534);
  CHECK(device_capacity(prefix("fd00::/32"), {prefix("fd00:0:1::1/32")}) == UINT64_MAX);
}
