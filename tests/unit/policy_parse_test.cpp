#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/unit/policy_text.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using Names = std::vector<std::string>;

namespace {

IpPrefix prefix(const char* text) { return parse_ip_prefix(text).value(); }

}  // namespace

TEST_CASE("Every key of the policy", "[policy_parse]") {
  const Policy policy = parse(R"(version = 1
[[pool]]
name = "fast"
kind = "macvlan"
parents = ["pf0", "ens*"]
berths = 8
park = "boot"
interface = "fab0"
addresses = ["10.77.0.0/16", "fd77::/64"]
nodes = "n[1-2]"
mtu = 9000
gateways = ["10.77.255.254/16", "fd77::ffff:ffff/64"]
[[pool]]
name = "vfs"
kind = "sriov"
parents = ["0000:3b:00.0", "0000:af:00.?"]
park = "never"
addresses = "inherit"
rdma = "exclusive"
hca_handles = 4
hca_objects = 2000
self_test = false
device_rules = false
selinux_label = "system_u:system_r:berth_rank_t:s0"
[[pool]]
name = "shares"
kind = "host"
parents = ["rocep59s0f0np0-port1", "ib*"]
berths = 16
rdma = "shared"
[[allow]]
users = ["alice"]
groups = ["hpc"]
accounts = ["proj"]
pools = ["fast", "*"]
max_devices = 4
[images]
paths = ["/opt//images/", "/home"]
kernel_mount = "never"
parked = ["/opt/images/app.sqsh"]
[mounts]
home = false
working_directory = false
allowed = ["/scratch"]
always = ["/data:/in:ro"]
devices = ["/dev/nvidia*"]
[environment]
set = { A = "x", B = "" }
prepend = { PATH = "/opt/bin" }
append = { PATH = "${HOME}/bin" }
unset = ["LD_PRELOAD"]
[pinning]
default = "cpus+mem"
irqs = "near"
[limits]
memlock = "8GiB"
)");
  CHECK(policy.source == "p.toml");
  REQUIRE(policy.pools.size() == 3);
  Pool fast;
  fast.name = "fast";
  fast.kind = PoolKind::macvlan;
  fast.parents = {"pf0", "ens*"};
  fast.berths_per_parent = 8;
  fast.park = Park::boot;
  fast.interface = "fab0";
  fast.addresses.ranges = {prefix("10.77.0.0/16"), prefix("fd77::/64")};
  fast.addresses.nodes = "n[1-2]";
  fast.mtu = 9000;
  fast.gateways = {prefix("10.77.255.254/16"), prefix("fd77::ffff:ffff/64")};
  CHECK(policy.pools[0] == fast);
  Pool vfs;
  vfs.name = "vfs";
  vfs.kind = PoolKind::sriov;
  vfs.parents = {"0000:3b:00.0", "0000:af:00.?"};
  vfs.park = Park::never;
  vfs.addresses.inherit = true;
  vfs.rdma = {RdmaMode::exclusive, 4U, 2000U, false, false, "system_u:system_r:berth_rank_t:s0"};
  CHECK(policy.pools[1] == vfs);
  Pool shares;
  shares.name = "shares";
  shares.kind = PoolKind::host;
  shares.parents = {"rocep59s0f0np0-port1", "ib*"};
  shares.berths_per_parent = 16;
  shares.park = Park::never;
  shares.interface = "";
  shares.rdma = {RdmaMode::shared, {}, {}, true, true, ""};
  CHECK(policy.pools[2] == shares);
  CHECK(policy.allow == std::vector<AllowRule>{{{"alice"}, {"hpc"}, {"proj"}, {"fast", "*"}, 4U}});
  CHECK(policy.images == ImagePolicy{{"/opt/images", "/home"}, KernelMount::never, {"/opt/images/app.sqsh"}});
  CHECK(policy.mounts == MountPolicy{false, false, {"/scratch"}, {{"/data", "/in", true}}, {"/dev/nvidia*"}});
  using Action = EnvironmentChange::Action;
  CHECK(policy.environment == std::vector<EnvironmentChange>{{Action::unset, "LD_PRELOAD", ""},
                                                             {Action::set, "A", "x"},
                                                             {Action::set, "B", ""},
                                                             {Action::prepend, "PATH", "/opt/bin"},
                                                             {Action::append, "PATH", "${HOME}/bin"}});
  CHECK(policy.pin == Pin::cpus_and_memory);
  CHECK(policy.irqs == IrqSteering::near);
  CHECK(policy.memlock == std::uint64_t{8} << 30);
}

TEST_CASE("Defaults of the policy", "[policy_parse]") {
  Policy expected;
  expected.source = "p.toml";
  CHECK(parse(kHeader) == expected);
  CHECK(expected.pin == Pin::cpus);
  CHECK(expected.irqs == IrqSteering::off);
  CHECK(expected.mounts.home);
  CHECK(expected.images.kernel_mount == KernelMount::trusted);
  const Pool pool = parse(kPool).pools.at(0);
  CHECK(pool.park == Park::first_use);
  CHECK(pool.interface == "rdma0");
  CHECK(pool.berths_per_parent == 0);
  CHECK(pool.addresses == AddressPolicy{});
  CHECK_FALSE(pool.mtu);
}

TEST_CASE("Windows line ends and comments are fine", "[policy_parse]") {
  CHECK(parse("# a.b.c\r\nversion = 1 # x\r\n[pinning]\r\ndefault = 'off'\r\n").pin == Pin::off);
}

TEST_CASE("Amounts of locked memory", "[policy_parse]") {
  const auto memlock = [](const std::string& value) { return parse(kHeader + "[limits]\nmemlock = " + value).memlock; };
  CHECK(memlock("\"unlimited\"") == UINT64_MAX);
  CHECK(memlock("65536") == 65536U);
  CHECK(memlock("0") == 0U);
  CHECK(memlock("\"64KiB\"") == 65536U);
  CHECK(memlock("\"3MiB\"") == 3U << 20);
  CHECK(memlock("\"1TiB\"") == std::uint64_t{1} << 40);
}

TEST_CASE("Refusals name the place, the mistake and the remedy", "[policy_parse]") {
  const auto [text, message] = GENERATE(table<std::string, std::string>({
      // The document.
      {"", "1:1: the file is empty, so it allows nothing | start from the example in docs/policy.md"},
      {"# only a comment\n", "1:1: the file is empty"},
      {"\xef\xbb\xbfversion = 1\n", "1:1: the file starts with a byte order mark"},
      {"[pinning]\n", "1:1: 'version' is missing | write version = 1 at the top"},
      {"version = 2\n", "1:11: this Berth reads version 1 only"},
      {"version = \"1\"\n", "1:11: 'version' must be an integer, not a string"},
      {"version = 1\nversion = 1\n", "2:"},
      {"version = 1\n[pinning\n", "2:"},
      {"version = 1\nx = \xff\n", "2:"},
      {"version = 99999999999999999999\n", "1:"},
      {"version = 1\npol = 1\n", "2:1: unknown key 'pol' | did you mean 'pool'?"},
      {"version = 1\nfrobnicate = 1\n", "2:1: unknown key 'frobnicate' | known are version, pool, allow, images, "},
      {"version = 1\n[limit]\n", "2:2: unknown key 'limit' | did you mean 'limits'?"},
      {"version = 1\npinning = 3\n", "2:11: 'pinning' must be a table, written [pinning], not an integer"},
      {"version = 1\n[pool]\nname = \"p\"\n", "2:1: 'pool' must be an array of tables, written [[pool]], not a table"},
      {"version = 1\npool = [1]\n", "2:9: 'pool' must be an array of tables"},
      {"version = 1\nallow = []\n", "2:9: 'allow' is an empty list | leave the key out to allow everybody"},
      // Pools.
      {"version = 1\n[[pool]]\n", "2:1: [[pool]]: 'name' is missing"},
      {"version = 1\n[[pool]]\nname = \"\"\n", "3:8: [[pool]]: 'name' is an empty string"},
      {"version = 1\n[[pool]]\nname = \"a b\"\n", "3:8: [[pool]]: 'a b' is not a name for a pool"},
      {"version = 1\n[[pool]]\nname = \"a\\u0000\"\n", "3:8: [[pool]]: 'name' has a control character"},
      {"version = 1\n[[pool]]\nname = [\"a\"]\n", "3:8: [[pool]]: 'name' must be a string, not an array"},
      {"version = 1\n[[pool]]\nname = \"a\"\n", "2:1: [[pool]] \"a\": 'kind' is missing"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"macvlna\"\n",
       "4:8: [[pool]] \"a\": kind = \"macvlna\" is none of macvlan, sriov, pf, host, usnic | did you mean 'macvlan'?"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\n", "'parents' is missing"},
      {"version = 1\n[[pool]]\nname = \"a\"\nparnets = []\n",
       "4:1: [[pool]]: unknown key 'parnets' | did you mean 'parents'?"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = []\n",
       "5:11: [[pool]] \"a\": 'parents' is an empty list"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = \"eth1\"\n",
       "'parents' must be an array of strings"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = [1]\n",
       "'parents' must be a string, not an integer"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = [\"e1\", \"e1\"]\n",
       "5:18: [[pool]] \"a\": 'parents' lists \"e1\" twice"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = [\"0123456789abcdef\"]\n",
       "neither an interface name nor a PCI address"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"sriov\"\nparents = [\"../eth*\"]\n",
       "cannot match an interface name"},
      {"version = 1\n[[pool]]\nname = \"a\"\nkind = \"macvlan\"\nparents = [\"eth1\"]\n", "'berths' is missing"},
      {kPool + "[[pool]]\nname = \"p\"\nkind = \"sriov\"\nparents = [\"eth1\"]\n",
       "7:8: [[pool]]: there is another pool \"p\""},
      {kPool + "berths = 0\n", "6:10: [[pool]] \"p\": berths = 0 is not between 1 and 4096"},
      {kPool + "berths = -1\n", "berths = -1 is not between"},
      {kPool + "berths = 9223372036854775807\n", "is not between"},
      {kPool + "berths = 1.5\n", "'berths' must be an integer, not a float"},
      {kPool + "park = \"first_use\"\n",
       "park = \"first_use\" is none of boot, first-use, never | did you mean 'first-use'?"},
      {kPool + "interface = \"abcdefghijklmnop\"\n", "'abcdefghijklmnop' is not a name for an interface"},
      {kPool + "interface = \"a/b\"\n", "not a name for an interface"},
      {kPool + "interface = \".\"\n", "not a name for an interface"},
      {kPool + "interface = \"eth%d\"\n", "not a name for an interface"},
      {kPool + "interface = \"lo\"\n", "not a name for an interface"},
      {kPool + "mtu = 67\n", "mtu = 67 is not between 68 and 65535"},
      {kPool + "mtu = 65536\n", "is not between"},
      {kPool + "mtu = 1279\naddresses = [\"fd00::/64\"]\nnodes = \"n1\"\n", "mtu = 1279 is not between 1280 and 65535"},
      // Addresses.
      {kPool + "addresses = \"10.0.0.0/8\"\n",
       "is neither \"inherit\" nor a list | write a list: addresses = [\"10.0.0.0/8\"]"},
      {kPool + "addresses = []\n", "'addresses' is an empty list"},
      {kPool + "addresses = [\"10.0.0.0\"]\nnodes = \"n1\"\n",
       "6:14: [[pool]] \"p\": '10.0.0.0' is not an address with a prefix length"},
      {kPool + "addresses = [\"10.0.0.0/33\"]\nnodes = \"n1\"\n", "is not an address with a prefix length"},
      {kPool + "addresses = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\nnodes = \"n1\"\n", "10.0.0.0/8 and 10.1.0.0/16 overlap"},
      {kPool + "addresses = [\"10.0.0.0/8\"]\n", "address ranges need 'nodes'"},
      {kPool + "nodes = \"n1\"\n", "and there are none"},
      {kPool + "addresses = \"inherit\"\nnodes = \"n1\"\n", "and there are none"},
      {kPool + "addresses = [\"10.0.0.0/8\"]\nnodes = \"n[1-\"\n",
       "7:9: [[pool]] \"p\": cannot use the hostlist 'n[1-': a number is missing"},
      {kPool + "addresses = [\"10.0.0.0/8\"]\nnodes = \"n[1-3],n2\"\n", "'nodes' lists 'n2' twice"},
      {kMacvlan + "addresses = \"inherit\"\n", "7:13: [[pool]] \"p\": a macvlan is made new"},
      {kMacvlan + "addresses = [\"10.0.0.0/24\"]\nnodes = \"n[1-32]\"\n",
       "10.0.0.0/24 has 254 addresses; 32 nodes with 8 devices need 256 | use a larger range, or fewer berths"},
      {kMacvlan + "addresses = [\"10.0.0.0/24\", \"fd00::/127\"]\nnodes = \"n1\"\n", "fd00::/127 has 1 addresses"},
      {kMacvlan + "addresses = [\"10.0.0.0/24\"]\nnodes = \"n1\"\ngateways = [\"10.0.1.1/24\"]\n",
       "9:13: [[pool]] \"p\": the gateway 10.0.1.1/24 is in none"},
      {kMacvlan + "addresses = [\"10.0.0.0/24\"]\nnodes = \"n1\"\ngateways = [\"10.0.0.8/24\"]\n",
       "has an address that a device gets"},
      {kMacvlan + "addresses = [\"10.0.0.0/24\"]\nnodes = \"n1\"\ngateways = [\"10.0.0.200/24\", \"10.0.0.201/24\"]\n",
       "another gateway of the same address family"},
      // Rules.
      {kPool + "[[allow]]\nusers = []\n",
       "7:9: [[allow]]: 'users' is an empty list | leave the key out, or list something"},
      {kPool + "[[allow]]\nuser = [\"a\"]\n", "7:1: [[allow]]: unknown key 'user' | did you mean 'users'?"},
      {kPool + "[[allow]]\nusers = [\"\"]\n", "'users' is an empty string"},
      {kPool + "[[allow]]\nusers = [\"a\", \"a\"]\n", "'users' lists \"a\" twice"},
      {kPool + "[[allow]]\nusers = [\"a\\n\"]\n", "'users' has a control character"},
      {kPool + "[[allow]]\npools = [\"q\"]\n", "7:10: [[allow]]: there is no pool \"q\" | add it as [[pool]]"},
      {kPool + "[[allow]]\nmax_devices = 0\n", "max_devices = 0 is not between 1 and 65535"},
      // Images and mounts.
      {kHeader + "[images]\npaths = [\"opt\"]\n", "3:10: [images]: 'opt' is not an absolute path without '..'"},
      {kHeader + "[images]\npaths = [\"/opt/../etc\"]\n", "is not an absolute path"},
      {kHeader + "[images]\npaths = \"/opt\"\n", "'paths' must be an array of strings, not a string"},
      {kHeader + "[images]\nkernel_mount = \"always\"\n", "kernel_mount = \"always\" is none of trusted, never"},
      {kHeader + "[images]\nparked = [\"app.sqsh\"]\n", "3:11: [images]: 'app.sqsh' is not an absolute path"},
      {kHeader + "[mounts]\nhome = \"yes\"\n", "3:8: [mounts]: 'home' must be true or false, not a string"},
      {kHeader + "[mounts]\nallowed = [\"scratch\"]\n", "is not an absolute path"},
      {kHeader + "[mounts]\nalways = [\"/a:/proc\"]\n", "3:11: [mounts]: cannot mount on '/proc'"},
      {kHeader + "[mounts]\nalways = [\"/a:/x\", \"/b:/x\"]\n", "3:20: [mounts]: '/x' is the target of two mounts"},
      {kHeader + "[mounts]\ndevices = [\"/etc/passwd\"]\n", "'/etc/passwd' is not a path below /dev"},
      {kHeader + "[mounts]\ndevices = [\"/dev/../etc\"]\n", "is not a path below /dev"},
      {kHeader + "[mounts]\ndevices = [\"/dev\"]\n", "is not a path below /dev"},
      // Environment, pinning and limits.
      {kHeader + "[environment]\nset = { \"A B\" = \"x\" }\n",
       "3:9: [environment]: 'A B' is not the name of a variable"},
      {kHeader + "[environment]\nset = { A = 1 }\n", "[environment] set: 'A' must be a string, not an integer"},
      {kHeader + "[environment]\nset = { A = \"\\u0000\" }\n", "'A' has a NUL character"},
      {kHeader + "[environment]\nset = { A = \"${B\" }\n", "'${' that names no variable"},
      {kHeader + "[environment]\nset = { A = \"${B}${}\" }\n", "'${' that names no variable"},
      {kHeader + "[environment]\nunset = [\"A\"]\nappend = { A = \"x\" }\n",
       "4:12: [environment]: 'A' is in 'unset' as well"},
      {kHeader + "[environment]\nset = [\"A\"]\n", "'set' must be a table"},
      {kHeader + "[pinning]\ndefault = \"core\"\n", "default = \"core\" is none of cpus, cpus+mem, off"},
      {kHeader + "[pinning]\nirqs = \"local\"\n", "irqs = \"local\" is none of off, near"},
      {kHeader + "[limits]\nmemlock = \"8GB\"\n", "3:11: [limits]: memlock = \"8GB\" is not an amount of memory"},
      {kHeader + "[limits]\nmemlock = \"GiB\"\n", "is not an amount of memory"},
      {kHeader + "[limits]\nmemlock = \"-1GiB\"\n", "is not an amount of memory"},
      {kHeader + "[limits]\nmemlock = \"99999999999GiB\"\n", "'memlock' is too large"},
      {kHeader + "[limits]\nmemlock = \"99999999999999999999GiB\"\n", "is not an amount of memory"},
      {kHeader + "[limits]\nmemlock = -1\n", "memlock = -1 is not between"},
      {kHeader + "[limits]\nmemlock = true\n", "'memlock' must be an integer, not a boolean"},
  }));
  CAPTURE(text);
  const std::string result = refusal(text);
  const bool has_place = message[0] >= '0' && message[0] <= '9' && message.find(':') <= 3;
  if (has_place) {
    CHECK_THAT(result, StartsWith(message));
  } else {
    CHECK_THAT(result, ContainsSubstring(message));
  }
}

TEST_CASE("Files that no policy looks like are refused quickly", "[policy_parse]") {
  CHECK_THAT(refusal(kHeader + std::string(10 << 20, '#')), ContainsSubstring("1:1: the file has 10485772 bytes"));
  CHECK_THAT(refusal(kHeader + std::string("[pin\0ning]\n", 11)), ContainsSubstring("2:5: there is a NUL byte"));
}

TEST_CASE("A table header without a key is refused: toml++ asserts that there is none", "[policy_parse]") {
  for (const char* header : {"[.x]", "[[.x]]", "[=]", "[,x]", "[\n]", "[ #]", "[\xc3\xa4]"}) {
    INFO(header);
    CHECK_THAT(refusal(kHeader + header),
               StartsWith("2:") && ContainsSubstring("expected bare key starting character"));
  }
}

TEST_CASE("Deep nesting does not crash", "[policy_parse]") {
  const auto repeat = [](const std::string& text, int times) {
    std::string repeated;
    for (int index = 0; index < times; ++index) repeated += text;
    return repeated;
  };
  for (const int depth : {200, 10000, 300000}) {
    CAPTURE(depth);
    CHECK_THAT(refusal(kHeader + "pool = " + repeat("[", depth)), !ContainsSubstring("accepted"));
    CHECK_THAT(refusal(kHeader + "pool = " + repeat("[", depth) + repeat("]", depth)), !ContainsSubstring("accepted"));
    CHECK_THAT(refusal(kHeader + "pool = " + repeat("{a=", depth) + "1" + repeat("}", depth)),
               !ContainsSubstring("accepted"));
    CHECK_THAT(refusal(kHeader + "[a" + repeat(".a", depth) + "]\n"), !ContainsSubstring("accepted"));
    CHECK_THAT(refusal(kHeader + "a" + repeat(".a", depth) + " = 1\n"), !ContainsSubstring("accepted"));
  }
  CHECK_THAT(refusal(kHeader + "a" + repeat(".a", 1001) + " = 1\n"), ContainsSubstring("the keys have over 1000 dots"));
  // Dots in strings and comments are no nesting.
  CHECK(parse(kHeader + "# " + repeat("..", 5000) + "\n[environment]\nset = { A = '" + repeat(".", 5000) +
              "', B = \"\\\"" + repeat(".", 5000) + "\" }\n")
            .environment.size() == 2);
}

namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("The example policies are policies", "[policy_parse]") {
  const std::filesystem::path examples = std::filesystem::path(BERTH_SOURCE_DIR) / "examples";
  for (const char* name : {"policy.toml", "policy-sriov.toml", "policy-laptop.toml"}) {
    CAPTURE(name);
    const Policy policy = parse_policy(read_text(examples / name), name);
    CHECK_FALSE(policy.pools.empty());
    CHECK_FALSE(policy.images.paths.empty());
  }
}

TEST_CASE("The policies of the example pages are policies", "[policy_parse]") {
  int policies = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(BERTH_SOURCE_DIR) / "examples/policies")) {
    CAPTURE(entry.path());
    CHECK(refusal(read_text(entry.path())) == "accepted");
    ++policies;
  }
  CHECK(policies >= 7);
}

TEST_CASE("The fragments in the documentation are policies", "[policy_parse]") {
  const std::string document = read_text(std::filesystem::path(BERTH_SOURCE_DIR) / "docs/policy.md");
  int fragments = 0;
  for (std::size_t begin = document.find("```toml\n"); begin != std::string::npos;) {
    begin += 8;
    const std::size_t end = document.find("```", begin);
    REQUIRE(end != std::string::npos);
    std::string text = document.substr(begin, end - begin);
    if (text.find("version") == std::string::npos) text = kHeader + text;
    CAPTURE(text);
    CHECK(refusal(text) == "accepted");
    ++fragments;
    begin = document.find("```toml\n", end);
  }
  CHECK(fragments >= 5);
}

TEST_CASE("Onload has to be allowed, and its paths have defaults", "[policy_parse]") {
  CHECK_FALSE(parse(kHeader).onload.enabled);
  const OnloadPolicy onload = parse(kHeader + "[onload]\n").onload;
  CHECK(onload.enabled);
  CHECK(onload.library.empty());
  CHECK(onload.script == "/usr/bin/onload");
  CHECK(onload.profiles == "/usr/libexec/onload/profiles");
  CHECK(onload.self_test);
  CHECK(parse(kHeader + "[onload]\nenabled = false\nself_test = false\nlibrary = \"/opt/x/libonload.so\"\n"
                        "script = \"/opt/x/onload\"\nprofiles = \"/opt/x/profiles\"\n")
            .onload == OnloadPolicy{false, "/opt/x/libonload.so", "/opt/x/onload", "/opt/x/profiles", false});
  CHECK_THAT(refusal(kHeader + "[onload]\nlibrary = \"libonload.so\"\n"), ContainsSubstring("not an absolute path"));
  CHECK_THAT(refusal(kHeader + "[onload]\nlibraries = \"/x\"\n"), ContainsSubstring("did you mean 'library'?"));
}
