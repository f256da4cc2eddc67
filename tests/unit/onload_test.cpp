#include "launcher/core/onload.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>

#include "launcher/core/char_devices.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/onload_profile.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr const char* kInterface = "0f343b0931126a20f133d67c2b018a3b";

/// As a compiled libonload.so has it, between other strings.
std::string library_of(const std::string& version, const std::string& interface) {
  const std::string nul(1, '\0');
  return "\x7f"
         "ELF" +
         nul + "some string" + nul + version + "\nCopyright (c) 2002-2024 Advanced Micro Devices, Inc.\n" +
         "Built: Mar  3 2024 12:00:00 (release)\nBuild profile header: <ci/internal/transport_config_opt_extra.h>\n" +
         nul + interface + nul + "another";
}

const OnloadModule kModule{"Onload", "9.0.2.140", kInterface};

std::string refusal(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.render();
  }
  return "accepted";
}

/// The settings of profile "main" among `files` (by name with suffix), as "NAME=VALUE;…".
std::string settings_of(const std::map<std::string, std::string>& files,
                        const std::vector<std::string>& names = {"main"}) {
  std::string text;
  const auto read = [&](const std::string& name, bool imported) -> std::optional<OnloadProfile> {
    for (const std::string suffix : {".opf", ".opf-fragment"}) {
      const auto found = files.find(name + suffix);
      if (found != files.end() && (imported || suffix == ".opf")) return OnloadProfile{found->first, found->second};
    }
    return std::nullopt;
  };
  for (const EnvironmentChange& change : collect_onload_settings(names, read)) {
    CHECK(change.action == EnvironmentChange::Action::set);
    text += change.name + "=" + change.value + ";";
  }
  return text;
}

std::string profile_refusal(const std::string& text) {
  return refusal([&] { settings_of({{"main.opf", text}}); });
}

}  // namespace

TEST_CASE("Char devices of /proc/devices, by name", "[onload]") {
  const auto majors = parse_char_majors(
      "Character devices:\n  1 mem\n  4 /dev/vc/0\n 10 misc\n507 onload_epoll\n508 onload\nbroken line\n\n12\n"
      "Block devices:\n  7 loop\n509 sfc_char\n");
  CHECK(majors ==
        std::vector<CharMajor>{{1, "mem"}, {4, "/dev/vc/0"}, {10, "misc"}, {507, "onload_epoll"}, {508, "onload"}});
  CHECK(find_char_major(majors, "onload") == 508U);
  CHECK(find_char_major(majors, "onload_epoll") == 507U);
  CHECK_FALSE(find_char_major(majors, "sfc_char"));
  CHECK_FALSE(find_char_major(majors, "onloa"));
  CHECK(parse_char_majors("").empty());
}

TEST_CASE("The build of the Onload module", "[onload]") {
  CHECK(parse_onload_module(
            "onload_product: Onload\nonload_version: 9.0.2.140 \nuk_intf_ver: 0f343b0931126a20f133d67c2b018a3b\n") ==
        kModule);
  for (const char* text :
       {"", "onload_product: Onload\n", "onload_product: Onload\nonload_version: 1\nuk_intf_ver: \n"})
    CHECK_THAT(refusal([&] { parse_onload_module(text); }), ContainsSubstring("uk_intf_ver"));
}

TEST_CASE("Library and module have to be of one build", "[onload]") {
  const auto match = [](const std::string& library) {
    return refusal([&] { check_onload_match(kModule, library, "/lib/libonload.so"); });
  };
  CHECK(find_onload_version(library_of("Onload 9.0.2.140 ", kInterface)) == "Onload 9.0.2.140");
  CHECK(match(library_of("Onload 9.0.2.140", kInterface)) == "accepted");
  CHECK(match(library_of("Onload 9.0.2.140 ", kInterface)) == "accepted");

  const std::string version = match(library_of("Onload 8.1.3.40", kInterface));
  CHECK_THAT(version, ContainsSubstring("of different versions") &&
                          ContainsSubstring("'/lib/libonload.so' is Onload 8.1.3.40, the module Onload 9.0.2.140") &&
                          ContainsSubstring("fix: install library and module from one build"));
  CHECK_THAT(match(library_of("OpenOnload 9.0.2.140", kInterface)), ContainsSubstring("of different versions"));
  const std::string build = match(library_of("Onload 9.0.2.140", "ffffffffffffffffffffffffffffffff"));
  CHECK_THAT(build, ContainsSubstring("of different builds") && ContainsSubstring(kInterface));
  // Not the beginning of something longer.
  CHECK_THAT(match(library_of("Onload 9.0.2.140", std::string(kInterface) + "0")),
             ContainsSubstring("different builds"));
  for (const std::string& other : {std::string(), std::string("\nBuilt: "),
                                   std::string("\x7f"
                                               "ELF and no more")})
    CHECK_THAT(match(other), ContainsSubstring("no library of Onload"));
}

TEST_CASE("Profiles of Onload are read as data", "[onload]") {
  CHECK(settings_of({{"main.opf",
                      "# SPDX\n\n  onload_set EF_POLL_USEC 100000\nonload_set EF_PIO 0 # why\n"
                      "onload_set EF_NAME='a b'\nonload_set EF_FILTERS \"any=rss:active\"\n"}}) ==
        "EF_POLL_USEC=100000;EF_PIO=0;EF_NAME=a b;EF_FILTERS=any=rss:active;");
  CHECK(settings_of({{"main.opf", ""}}).empty());
  CHECK(settings_of({{"main.opf", "onload_set EF_A 1"}}) == "EF_A=1;");
  // What is set first stays, also across imports and profiles, and a fragment can only be imported.
  CHECK(settings_of({{"main.opf", "onload_set EF_A 1\nonload_import base\nonload_set EF_B 3\n"},
                     {"base.opf-fragment", "onload_set EF_A 2\nonload_set EF_B 2\n"},
                     {"second.opf", "onload_set EF_C 4\nonload_set EF_B 4\n"}},
                    {"main", "second"}) == "EF_A=1;EF_B=2;EF_C=4;");
}

TEST_CASE("Profiles that want a shell are refused with file and line", "[onload]") {
  CHECK_THAT(profile_refusal("onload_set EF_A 1\nif [ -z \"$EF_B\" ]; then\n"),
             ContainsSubstring("main.opf:2: ") && ContainsSubstring("is for a shell") && ContainsSubstring("fix: "));
  for (const char* text :
       {"onload_set EF_A $EF_B", "onload_set EF_A \"$EF_B\"", "onload_set EF_A `id`", "onload_set EF_A $(( 1 / 2 ))",
        "onload_set EF_A 1; reboot", "onload_set EF_A 1 && true", "onload_set EF_A \\", "onload_set EF_A a*",
        "onload_set EF_A a\x01", "onload_import other \"$@\"", "onload_set EF_A 1\r"})
    CHECK_THAT(profile_refusal(text), ContainsSubstring("main.opf:1: ") && ContainsSubstring("is for a shell"));
  CHECK_THAT(profile_refusal("onload_set EF_A 'x"), ContainsSubstring("does not end"));
  CHECK_THAT(profile_refusal("onload_set"), ContainsSubstring("a name and a value"));
  CHECK_THAT(profile_refusal("onload_set EF_A"), ContainsSubstring("no value"));
  CHECK_THAT(profile_refusal("onload_set EF_A ''"), ContainsSubstring("a name and a value"));
  CHECK_THAT(profile_refusal("onload_set EF_A 1 2"), ContainsSubstring("a name and a value"));
  CHECK_THAT(profile_refusal("onload_set LD_PRELOAD x"), ContainsSubstring("no variable of Onload"));
  CHECK_THAT(profile_refusal("onload_set EF-A x"), ContainsSubstring("no variable of Onload"));
  CHECK_THAT(profile_refusal("export EF_A=1"), ContainsSubstring("'export' is neither"));
  CHECK_THAT(profile_refusal("onload_import missing"), ContainsSubstring("no profile 'missing'"));
  CHECK_THAT(profile_refusal("\n\nonload_import main"),
             ContainsSubstring("main.opf:3: ") && ContainsSubstring("too deep"));
}

TEST_CASE("A rank's environment under Onload: the job's own EF_ variables win", "[onload]") {
  RankEnvironment rank;
  rank.site = {{EnvironmentChange::Action::unset, "LD_PRELOAD", ""}};
  rank.user = {{EnvironmentChange::Action::set, "EF_C", "user"}};
  using Action = EnvironmentChange::Action;
  add_onload_environment(rank, "/opt/onload/usr/lib64/libonload.so", "/opt/onload/usr/lib64",
                         {{Action::set, "EF_A", "1"}, {Action::set, "EF_B", "2"}, {Action::set, "EF_C", "3"}});
  const auto resolve = [&](const std::map<std::string, std::string>& current) {
    std::map<std::string, std::string> result = current;
    for (const EnvironmentChange& change : resolve_environment(current, rank))
      if (change.action == Action::unset) {
        result.erase(change.name);
      } else {
        result[change.name] = change.value;
      }
    return result;
  };
  using Variables = std::map<std::string, std::string>;
  CHECK(resolve({{"EF_A", "own"}, {"LD_LIBRARY_PATH", "/app"}, {"LD_PRELOAD", "libother.so"}}) ==
        Variables{{"EF_A", "own"},
                  {"EF_B", "2"},
                  {"EF_C", "user"},
                  {"LD_LIBRARY_PATH", "/opt/onload/usr/lib64:/app"},
                  {"LD_PRELOAD", "/opt/onload/usr/lib64/libonload.so"}});
  rank.site.erase(rank.site.begin());
  rank.user.push_back({Action::unset, "LD_LIBRARY_PATH", ""});
  CHECK(resolve({{"LD_PRELOAD", "libother.so"}}).at("LD_PRELOAD") == "/opt/onload/usr/lib64/libonload.so:libother.so");
  CHECK(resolve({}).count("LD_LIBRARY_PATH") == 0);

  RankEnvironment on_host;
  add_onload_environment(on_host, "/usr/lib64/libonload.so", "", {});
  CHECK(resolve_environment({}, on_host) ==
        std::vector<EnvironmentChange>{{Action::set, "LD_PRELOAD", "/usr/lib64/libonload.so"}});
}
