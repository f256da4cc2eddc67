// Policies as text, for tests: beginnings of files, and what is said of one that is refused.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <string>

#include "launcher/core/error.hpp"
#include "launcher/core/policy.hpp"

namespace berth {

inline const std::string kHeader = "version = 1\n";
inline const std::string kPool = kHeader + "[[pool]]\nname = \"p\"\nkind = \"sriov\"\nparents = [\"eth1\"]\n";
inline const std::string kMacvlan =
    kHeader + "[[pool]]\nname = \"p\"\nkind = \"macvlan\"\nparents = [\"eth1\"]\nberths = 8\n";

inline Policy parse(const std::string& text) { return parse_policy(text, "p.toml"); }

/// "LINE:COLUMN: message" of a refusal, with the fix behind " | ".
inline std::string refusal(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& error) {
    CHECK(error.code == ErrorCode::policy);
    CHECK(error.what_text == "cannot use the policy 'p.toml'");
    REQUIRE_THAT(error.why, Catch::Matchers::StartsWith("p.toml:"));
    return error.why.substr(7) + (error.fix.empty() ? "" : " | " + error.fix);
  }
  return "accepted";
}

}  // namespace berth
