#include "launcher/core/request.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>
#include <string>

#include "launcher/core/error.hpp"
#include "launcher/core/stats_file.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

Request with(std::string_view name, std::string_view value) {
  Request request;
  apply_option(request, name, value);
  return request;
}

/// The rendered refusal of an option, which has to be a usage error and to leave the request alone.
std::string refusal(std::string_view name, std::string_view value) {
  Request request;
  try {
    apply_option(request, name, value);
  } catch (const Error& error) {
    CHECK(error.code == ErrorCode::usage);
    CHECK(request == Request{});
    return error.render();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("Every option has a unique name, help, and can be applied", "[request]") {
  std::set<std::string_view> names;
  for (const OptionSpec& spec : option_specs()) {
    CHECK(names.insert(spec.name).second);
    CHECK_FALSE(spec.help.empty());
    CHECK_THAT(refusal(spec.name, "\x01 no\n"), ContainsSubstring(spec.name == "container" ? "accepted" : "--rdma-"));
  }
  CHECK(names == std::set<std::string_view>{"container", "pool", "mount", "env", "workdir", "pin", "net", "devices",
                                            "gpus", "onload", "share", "wait", "stats", "verbose"});
}

TEST_CASE("Plain options", "[request]") {
  CHECK(with("container", "app.sif").image == "app.sif");
  CHECK(with("container", "none").image == kNoImage);
  CHECK(with("container", "/images/\xff.sif").image == "/images/\xff.sif");
  CHECK(with("pool", "fast").pool == "fast");
  CHECK(with("workdir", "/work").working_directory == "/work");
  CHECK(with("pin", "off").pin == Pin::off);
  CHECK(with("pin", "cpus").pin == Pin::cpus);
  CHECK(with("pin", "cpus+mem").pin == Pin::cpus_and_memory);
  CHECK(with("net", "rank").net == NetScope::rank);
  CHECK(with("net", "node").net == NetScope::node);
  CHECK(with("net", "host").net == NetScope::host);
  using Profiles = std::vector<std::string>;
  CHECK(with("onload", "").onload == Profiles{});
  CHECK(with("onload", "1").onload == Profiles{});
  CHECK_FALSE(with("onload", "0").onload);
  CHECK(with("onload", "latency").onload == Profiles{"latency"});
  CHECK(with("onload", "latency,my-own").onload == Profiles{"latency", "my-own"});
  CHECK_THAT(refusal("onload", "../../etc/passwd"), ContainsSubstring("not the name of a profile"));
  CHECK_THAT(refusal("onload", "latency,"), ContainsSubstring("not the name of a profile"));
  CHECK(with("wait", "0").wait_seconds == 0);
  CHECK(with("devices", "2").devices == 2);
  CHECK(with("gpus", "nearest").gpus == std::vector<std::string>{"nearest"});
  CHECK(with("gpus", "3,0000:07:00.0").gpus == std::vector<std::string>{"3", "0000:07:00.0"});
  CHECK(with("wait", "86400").wait_seconds == 86400);
}

TEST_CASE("Statistics are said, written to a file, or left out", "[request]") {
  CHECK_FALSE(Request{}.stats);
  CHECK(with("stats", "").stats == "");
  CHECK(with("stats", "1").stats == "");
  CHECK(with("stats", "out/%j.%s-%N.json").stats == "out/%j.%s-%N.json");
  Request request = with("stats", "1");
  apply_option(request, "stats", "0");
  CHECK(request == Request{});
  CHECK_THAT(refusal("stats", "out-%t.json"), ContainsSubstring("'%t' stands for nothing"));
  CHECK_THAT(refusal("stats", "out%"), ContainsSubstring("'%' stands for nothing"));
  CHECK_THAT(refusal("stats", "out\n"), ContainsSubstring("control characters"));

  CHECK(expand_stats_pattern("out/%j.%s-%N.json", "n1", 7, 0) == "out/7.0-n1.json");
  CHECK(expand_stats_pattern("/tmp/100%%", "n1", 7, 0) == "/tmp/100%.n1");
  CHECK(expand_stats_pattern("%%N%N%N", "n1", 7, 0) == "%Nn1n1");
}

TEST_CASE("Flags", "[request]") {
  CHECK(with("share", "").share);
  CHECK(with("share", "1").share);
  CHECK(with("verbose", "").verbose);
  Request request = with("share", "1");
  apply_option(request, "share", "0");
  CHECK(request == Request{});
  CHECK_THAT(refusal("share", "yes"), ContainsSubstring("it is a flag"));
}

TEST_CASE("The last value of an option counts", "[request]") {
  Request request = with("pool", "fast");
  apply_option(request, "pool", "slow");
  CHECK(request.pool == "slow");
  Request off = with("container", "a.sqsh");
  apply_option(off, "container", "");
  CHECK(off.image.empty());
}

TEST_CASE("Mounts", "[request]") {
  CHECK(with("mount", "/data").mounts == std::vector<MountRequest>{{"/data", "/data", false}});
  CHECK(with("mount", "/data:/in:ro").mounts == std::vector<MountRequest>{{"/data", "/in", true}});
  CHECK(with("mount", "/data:ro").mounts == std::vector<MountRequest>{{"/data", "/data", true}});
  CHECK(with("mount", "/a:/b:rw,/c").mounts == std::vector<MountRequest>{{"/a", "/b", false}, {"/c", "/c", false}});
  CHECK(with("mount", "/a//b/./c/:/d/").mounts == std::vector<MountRequest>{{"/a/b/c", "/d", false}});
  CHECK(with("mount", "/a\\,b:/c\\:d\\\\e").mounts == std::vector<MountRequest>{{"/a,b", "/c:d\\e", false}});
  CHECK(with("mount", "/dev/shm/x:/dev/shm/x").mounts.size() == 1);
}

TEST_CASE("Mounts add up, and a later one takes the target over", "[request]") {
  Request request = with("mount", "/a,/b");
  apply_option(request, "mount", "/c:/a:ro");
  CHECK(request.mounts == std::vector<MountRequest>{{"/b", "/b", false}, {"/c", "/a", true}});
}

TEST_CASE("Mounts that are refused", "[request]") {
  const auto [value, reason] = GENERATE(table<std::string, std::string>({
      {"", "value is empty"},
      {"data", "absolute path"},
      {"./data:/data", "absolute path"},
      {"/data:data", "absolute path"},
      {"/data:/a/../b", "without '..'"},
      {"/data/../etc:/a", "without '..'"},
      {"/data:/", "afresh"},
      {"/data:/./", "afresh"},
      {"/data:/proc/1", "afresh"},
      {"/data:/proc", "afresh"},
      {"/data:/sys/fs", "afresh"},
      {"/data:/dev", "afresh"},
      {"/data:/dev/", "afresh"},
      {"/", "afresh"},
      {"/proc/self/fd/3:/x", "/proc"},
      {"/a,,/b", "source is empty"},
      {"/a,", "source is empty"},
      {":/b", "source is empty"},
      {"/a:", "target is empty"},
      {"/a:/b:suid", "neither ro nor rw"},
      {"/a:/b:ro:rw", "neither ro nor rw"},
      {"/a:/b:RO", "neither ro nor rw"},
      {"ro", "absolute path"},
  }));
  CAPTURE(value);
  const std::string message = refusal("mount", value);
  CHECK_THAT(message, ContainsSubstring(reason));
  CHECK_THAT(message, ContainsSubstring("--rdma-mount="));
}

TEST_CASE("Too many mounts are refused", "[request]") {
  std::string value = "/m0";
  for (int index = 1; index < 5000; ++index) value += ",/m" + std::to_string(index);
  CHECK_THAT(refusal("mount", value), ContainsSubstring("more than 256 mounts"));
}

TEST_CASE("Environment changes", "[request]") {
  using Action = EnvironmentChange::Action;
  CHECK(with("env", "A=1,B=x=y,C=,-D").environment ==
        std::vector<EnvironmentChange>{
            {Action::set, "A", "1"}, {Action::set, "B", "x=y"}, {Action::set, "C", ""}, {Action::unset, "D", ""}});
  CHECK(with("env", "A=1\\,2\\\\,B=C:\\dir").environment ==
        std::vector<EnvironmentChange>{{Action::set, "A", "1,2\\"}, {Action::set, "B", "C:\\dir"}});
  CHECK(with("env", "A=${HOME}").environment == std::vector<EnvironmentChange>{{Action::set, "A", "${HOME}"}});
  CHECK(with("env", "A=-1").environment == std::vector<EnvironmentChange>{{Action::set, "A", "-1"}});

  Request request = with("env", "A=1,B=2");
  apply_option(request, "env", "-A");
  CHECK(request.environment == std::vector<EnvironmentChange>{{Action::set, "B", "2"}, {Action::unset, "A", ""}});
}

TEST_CASE("Environment changes that are refused", "[request]") {
  CHECK_THAT(refusal("env", ""), ContainsSubstring("value is empty"));
  CHECK_THAT(refusal("env", "A"), ContainsSubstring("has no '='"));
  CHECK_THAT(refusal("env", "A=1,,B=2"), ContainsSubstring("has no '='"));
  CHECK_THAT(refusal("env", "A=1,2"), ContainsSubstring("a comma in a value is written \\,"));
  CHECK_THAT(refusal("env", "=1"), ContainsSubstring("not the name of a variable"));
  CHECK_THAT(refusal("env", "1A=1"), ContainsSubstring("not the name of a variable"));
  CHECK_THAT(refusal("env", "A B=1"), ContainsSubstring("not the name of a variable"));
  CHECK_THAT(refusal("env", "-"), ContainsSubstring("not the name of a variable"));
  CHECK_THAT(refusal("env", "--A=1"), ContainsSubstring("not the name of a variable"));
}

TEST_CASE("Values that are refused say what is accepted", "[request]") {
  CHECK_THAT(refusal("pin", "core"), ContainsSubstring("off, cpus and cpus+mem"));
  CHECK_THAT(refusal("net", "Host"), ContainsSubstring("rank, node and host"));
  CHECK_THAT(refusal("workdir", "work"), ContainsSubstring("absolute path"));
  for (const char* bad : {"-1", "1.5", "1s", " 1", "86401", "18446744073709551616", "0x10"}) {
    CAPTURE(bad);
    CHECK_THAT(refusal("wait", bad), ContainsSubstring("whole number of seconds"));
    CHECK_THAT(refusal("devices", bad), ContainsSubstring("whole number from 1 to 32"));
  }
  for (const char* bad : {"a", "1,", ",1", "nearest,1", "-1", "99999", "0x1", "7:0"}) {
    CAPTURE(bad);
    CHECK_THAT(refusal("gpus", bad), ContainsSubstring("neither a number nor a PCI address"));
  }
  for (const char* bad : {"a b", "-a", "a/b", "..", "a\n"}) {
    CAPTURE(bad);
    CHECK_THAT(refusal("pool", bad), ContainsSubstring("not the name of a pool"));
  }
  CHECK_THAT(refusal("pool", std::string(65, 'a')), ContainsSubstring("not the name of a pool"));
  CHECK_THAT(refusal("pool", ""), ContainsSubstring("write --rdma-pool=NAME"));
}

TEST_CASE("Huge and binary values are refused, and messages stay short", "[request]") {
  const std::string huge(1 << 20, 'a');
  const std::string message = refusal("container", huge);
  CHECK_THAT(message, ContainsSubstring("over 65536 bytes"));
  CHECK(message.size() < 500);
  CHECK_THAT(refusal("container", std::string_view("a\0b", 3)), ContainsSubstring("NUL"));
}

TEST_CASE("An unknown option names the nearest", "[request]") {
  CHECK_THAT(refusal("contianer", "x"), ContainsSubstring("did you mean --rdma-container?"));
  CHECK_THAT(refusal("mounts", "x"), ContainsSubstring("did you mean --rdma-mount?"));
  CHECK_THAT(refusal("frobnicate", "x"), ContainsSubstring("--help lists the options"));
  CHECK_THAT(refusal("\x1b[2J", "x"), ContainsSubstring("\\x1b[2J"));
}

TEST_CASE("Names print as they are written", "[request]") {
  for (const Pin pin : {Pin::off, Pin::cpus, Pin::cpus_and_memory}) CHECK(parse_pin(to_string(pin)) == pin);
  CHECK(to_string(NetScope::node) == "node");
  CHECK_FALSE(parse_pin(""));
}
