#include "launcher/core/placement_problem.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <string>

#include "tests/error_of.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::string_view kMachine = R"(<topology version="2.0">
<object type="Machine" cpuset="0xf">
<object type="Package" cpuset="0x3"><object type="NUMANode" os_index="0" cpuset="0x3"/>
<object type="Core" cpuset="0x1"/><object type="Core" cpuset="0x2"/>
<object type="Bridge" bridge_type="0-1"><object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0200 [8086:1572]"/>
<object type="PCIDev" pci_busid="0000:03:00.0" pci_type="0302 [10de:20b0]"/></object></object>
<object type="Package" cpuset="0xc"><object type="NUMANode" os_index="1" cpuset="0xc"/>
<object type="Core" cpuset="0x4"/><object type="Core" cpuset="0x8"/>
<object type="PCIDev" pci_busid="0000:02:00.0" pci_type="0200 [8086:1572]"/></object>
</object></topology>)";

NamedProblem read(const std::string& text) {
  return parse_problem(parse_problem_file(text, "p.json"), "p.json", parse_hwloc_xml(kMachine, "m.xml"));
}

nlohmann::json plan(const std::string& text) {
  const NamedProblem named = read(text);
  return to_json_value(named, *choose_placement(named.problem));
}

std::string refusal(const std::string& text) {
  const Error error = testing::error_of([&] {
    problem_topology(parse_problem_file(text, "p.json"), "p.json");
    read(text);
  });
  CHECK(error.code == ErrorCode::host);
  return error.why;
}

std::string with(const std::string& devices, const std::string& ranks = R"([{"cpuset": "0"}])") {
  return R"({"topology": "m.xml", "devices": )" + devices + R"(, "ranks": )" + ranks + "}";
}

}  // namespace

TEST_CASE("A problem's devices may be named, or found in the topology", "[placement]") {
  const auto named = plan(with(R"([{"id": "a", "pci": "0000:01:00.0"}, {"id": "b", "pci": "0000:02:00.0"}])",
                               R"([{"cpuset": "2-3"}, {"cpuset": "0x1"}])"));
  CHECK(named["assignment"] == nlohmann::json({"b", "a"}));
  CHECK(named["cpusets"] == nlohmann::json({"2-3", "0"}));
  const auto found = plan(R"({"topology": "m.xml", "kind": "pci", "vfs": 2, "ranks": [{"cpuset": "2"}]})");
  CHECK(found["assignment"] == nlohmann::json({"0000:02:00.0/vf0"}));
}

TEST_CASE("More ranks than a problem has room for are left without a device", "[placement]") {
  const auto made = plan(with(R"([{"pci": "0000:01:00.0"}])", R"([{"cpuset": "3"}, {"cpuset": "0"}])"));
  CHECK(made["assignment"] == nlohmann::json({nullptr, "0000:01:00.0"}));
  CHECK(made["objective"]["unserved"] == 1);
}

TEST_CASE("Without any device every rank is left without", "[placement]") {
  CHECK(plan(with("[]", R"([{"cpuset": "3"}, {"cpuset": "0"}])"))["assignment"] == nlohmann::json({nullptr, nullptr}));
}

TEST_CASE("A rank's GPU decides before its CPUs do", "[placement]") {
  const auto made = plan(
      with(R"([{"pci": "0000:02:00.0"}, {"pci": "0000:01:00.0"}])", R"([{"cpuset": "3", "gpu": "0000:03:00.0"}])"));
  CHECK(made["assignment"] == nlohmann::json({"0000:01:00.0"}));
  CHECK(made["ranks"][0]["gpu_path"] == "PHB");
  CHECK(made["ranks"][0]["nearness"] == "remote");
}

TEST_CASE("Speeds may be fractions, and a faster port carries more", "[placement]") {
  const auto named = read(with(R"([{"pci": "0000:01:00.0", "speed": "1/3"}, {"pci": "0000:02:00.0", "speed": 2.5}])"));
  CHECK(named.problem.devices[0].speed == 2);
  CHECK(named.problem.devices[1].speed == 15);
}

TEST_CASE("What solve prints around a problem is looked through", "[placement]") {
  CHECK(read(R"({"plan": {}, "problem": {"ranks": [], "devices": []}})").problem.ranks.empty());
}

TEST_CASE("A problem that makes no sense is refused with its place", "[placement]") {
  CHECK_THAT(refusal("{"), ContainsSubstring("p.json:1:2"));
  CHECK_THAT(refusal("[]"), ContainsSubstring("p.json: the file is not an object"));
  CHECK_THAT(refusal("{}"), ContainsSubstring("no 'topology'"));
  CHECK_THAT(refusal(with("3")), ContainsSubstring("devices is not an array"));
  CHECK_THAT(refusal(with(R"([{"pci": "0000:09:00.0"}])")), ContainsSubstring("devices[0].pci is not the address"));
  CHECK_THAT(refusal(with(R"([{"pci": "0000:01:00.0"}, {"pci": "0000:01:00.0"}])")),
             ContainsSubstring("devices[1] has the id of another"));
  CHECK_THAT(refusal(with(R"([{"pci": "0000:01:00.0", "cap": -1}])")), ContainsSubstring("devices[0].cap is not"));
  CHECK_THAT(refusal(with(R"([{"pci": "0000:01:00.0", "speed": "0"}])")), ContainsSubstring("devices[0].speed"));
  CHECK_THAT(refusal(with(R"([{"pci": "0000:01:00.0", "speed": "1/0"}])")), ContainsSubstring("devices[0].speed"));
  CHECK_THAT(refusal(with(R"([{"id": "a", "pci": "0000:01:00.0", "port": "p", "card": "c"},
                              {"id": "b", "pci": "0000:01:00.0", "port": "p", "card": "d"}])")),
             ContainsSubstring("devices[1] has port 'p' on card 'd'"));
  CHECK_THAT(refusal(with("[]", R"([{"cpuset": "7"}])")),
             ContainsSubstring("ranks[0].cpuset has no CPU of the machine"));
  CHECK_THAT(refusal(with("[]", R"([{"cpuset": "0x"}])")), ContainsSubstring("ranks[0].cpuset has no CPU"));
  CHECK_THAT(refusal(with("[]", R"([{"cpuset": "0xg"}])")), ContainsSubstring("ranks[0].cpuset is not a set of CPUs"));
  CHECK_THAT(refusal(with("[]", R"([{"cpuset": "0", "gpu": "x"}])")), ContainsSubstring("ranks[0].gpu"));
  CHECK_THAT(refusal(R"({"topology": "m", "order": "best", "ranks": []})"), ContainsSubstring("order is not"));
}
