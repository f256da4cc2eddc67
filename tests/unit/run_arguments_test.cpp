// The command lines of `berth run` that are understood without CLI11 mean what CLI11 makes of them.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <optional>

#include "launcher/cli/verbs.hpp"

using namespace berth;

namespace {

using Words = std::vector<std::string>;

/// What CLI11 makes of it; nullopt: it refuses.
std::optional<RunArguments> parse_with_cli11(Words words) {
  std::optional<RunArguments> result;
  GlobalOptions options;
  CLI::App app;
  add_run_verb(app, options, [&](const RunArguments& run) {
    result = run;
    return 0;
  });
  words.insert(words.begin(), "run");
  options.after_dashes = split_command(words);
  std::ranges::reverse(words);
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError&) {
    return std::nullopt;
  }
  // It calls back option by option; what is said for one option stays in order.
  if (result) std::ranges::stable_sort(result->options, {}, &std::pair<std::string, std::string>::first);
  return result;
}

std::optional<RunArguments> parse_plainly(const Words& words) {
  auto result = parse_plain_arguments(words);
  if (result) std::ranges::stable_sort(result->options, {}, &std::pair<std::string, std::string>::first);
  return result;
}

}  // namespace

TEST_CASE("plain command lines of berth run are understood without CLI11, and alike") {
  for (const Words& words : std::vector<Words>{
           {"app.sif", "./solver"},
           {"app.sif", "./solver", "in.dat", "-v", "--pool=x", "--", "--net", "host"},
           {"app.sif", "--", "./solver", "--", "-x"},
           {"-v", "app.sif", "--net=host", "./solver", "-n", "3"},
           {"--verbose", "--pool", "fast", "app.sif", "--wait", "30", "--", "--net=host"},
           {"--rdma-pool=fast", "--rdma-devices", "2", "none", "apptainer", "exec", "app.sif", "./a"},
           {"--mount=/a:/b", "app.sif", "--mount", "/c:/d", "--env=A=1,B=2", "true"},
           {"--share", "app.sif", "--stats", "true"},
           {"--onload", "app.sif", "./server"},
           {"--onload=latency", "--stats=figures.json", "app.sif", "./server"},
       }) {
    CAPTURE(words);
    const auto plain = parse_plainly(words);
    REQUIRE(plain);
    CHECK(plain == parse_with_cli11(words));
    CHECK(plain == parse_plainly(make_plain_words(*plain)));
  }
}

TEST_CASE("whatever else berth run is given is left to CLI11") {
  for (const Words& words : std::vector<Words>{
           {},
           {"app.sif"},
           {"app.sif", "--"},
           {"--", "app.sif", "true"},
           {"--help"},
           {"app.sif", "--help"},
           {"--poool=x", "app.sif", "true"},
           {"-x", "app.sif", "true"},
           {"-", "true"},
           {"", "true"},
           {"--pool"},
           {"--pool=", "app.sif", "true"},
           {"--pool", "--net=host", "app.sif", "true"},
           {"--pool", "--", "app.sif", "true"},
           {"--share=1", "app.sif", "true"},
           {"--stats=true", "app.sif", "true"},
           {"--container=app.sif", "other.sif", "true"},
           {"--verbose=true", "app.sif", "true"},
           {"--rdma-verbose", "app.sif", "true"},
       }) {
    CAPTURE(words);
    CHECK_FALSE(parse_plain_arguments(words));
  }
}
