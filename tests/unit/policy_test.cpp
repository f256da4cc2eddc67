#include "launcher/core/policy.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <string>

#include "launcher/core/error.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;
using Names = std::vector<std::string>;

namespace {

Policy policy_with(std::string pools, Names rules) {
  std::string text = "version = 1\n";
  for (const char pool : pools) {
    text += std::string("[[pool]]\nname = \"") + pool + "\"\nkind = \"sriov\"\nparents = [\"eth1\"]\n";
  }
  for (const std::string& rule : rules) text += "[[allow]]\n" + rule + "\n";
  return parse_policy(text, "policy.toml");
}

Caller alice() {
  Caller caller;
  caller.user = "alice";
  caller.groups = {"users", "hpc"};
  caller.account = "proj";
  return caller;
}

/// Name of the chosen pool, with the device limit if there is one; or why there is none.
std::string choice(const Policy& policy, const Caller& caller, const std::string& wanted = "") {
  Request request;
  request.pool = wanted;
  try {
    const PoolGrant grant = choose_pool(policy, caller, request);
    return grant.pool->name + (grant.max_devices ? ":" + std::to_string(*grant.max_devices) : "");
  } catch (const Error& error) {
    CHECK(error.code == ErrorCode::policy);
    return error.render();
  }
}

}  // namespace

TEST_CASE("Without rules everybody may use every pool", "[policy]") {
  const Policy policy = policy_with("ab", {});
  CHECK(choice(policy, alice()) == "a");
  CHECK(choice(policy, Caller{}, "b") == "b");
}

TEST_CASE("The first pool in the file that a rule grants is the default", "[policy]") {
  const Policy policy = policy_with("abc", {"users = [\"alice\"]\npools = [\"c\"]", "pools = [\"b\"]"});
  CHECK(choice(policy, alice()) == "b");
  CHECK(choice(policy, alice(), "c") == "c");
  CHECK_THAT(choice(policy, alice(), "a"), ContainsSubstring("cannot use pool 'a'"));
}

TEST_CASE("Each field of a rule that is there has to match", "[policy]") {
  const auto allows = [](const std::string& rule) { return choice(policy_with("a", {rule}), alice()) == "a"; };
  CHECK(allows("users = [\"alice\"]"));
  CHECK(allows("users = [\"bob\", \"alice\"]"));
  CHECK(allows("groups = [\"hpc\"]"));
  CHECK(allows("accounts = [\"proj\"]"));
  CHECK(allows("users = [\"*\"]\ngroups = [\"*\"]\naccounts = [\"*\"]\npools = [\"*\"]"));
  CHECK(allows("users = [\"alice\"]\ngroups = [\"hpc\"]\naccounts = [\"proj\"]"));
  CHECK_FALSE(allows("users = [\"bob\"]"));
  CHECK_FALSE(allows("users = [\"alic\"]"));
  CHECK_FALSE(allows("users = [\"alice\"]\ngroups = [\"wheel\"]"));
  CHECK_FALSE(allows("users = [\"alice\"]\naccounts = [\"other\"]"));
  CHECK_FALSE(allows("groups = [\"proj\"]"));
}

TEST_CASE("A caller without name, groups and account matches stars only", "[policy]") {
  const auto allows = [](const std::string& rule) { return choice(policy_with("a", {rule}), Caller{}) == "a"; };
  CHECK(allows("users = [\"*\"]"));
  CHECK(allows("groups = [\"*\"]"));
  CHECK(allows("accounts = [\"*\"]"));
  CHECK_FALSE(allows("users = [\"alice\"]"));
  CHECK_FALSE(allows("groups = [\"hpc\"]"));
  CHECK_FALSE(allows("accounts = [\"proj\"]"));
}

TEST_CASE("The limit is that of the first rule which grants the pool", "[policy]") {
  const Policy policy = policy_with("ab", {"users = [\"bob\"]\nmax_devices = 9", "pools = [\"b\"]\nmax_devices = 1",
                                           "users = [\"alice\"]\nmax_devices = 4", "max_devices = 2"});
  CHECK(choice(policy, alice(), "a") == "a:4");
  CHECK(choice(policy, alice(), "b") == "b:1");
  CHECK(choice(policy, Caller{}, "a") == "a:2");
}

TEST_CASE("Refusals say which rule is missing, and what else there is", "[policy]") {
  const Policy policy = policy_with("abc", {"users = [\"alice\"]\npools = [\"b\", \"c\"]"});
  CHECK(choice(policy, alice(), "a") ==
        "berth: cannot use pool 'a'\n"
        "  why: no [[allow]] rule of policy.toml gives pool 'a' to user 'alice' (groups users, hpc), account 'proj'\n"
        "  fix: use one of your pools: --rdma-pool=b|c");
  CHECK(choice(policy, Caller{}) ==
        "berth: cannot use any pool\n"
        "  why: no [[allow]] rule of policy.toml gives any pool to user ''\n"
        "  fix: ask the administrator to allow it");
  CHECK_THAT(choice(policy, alice(), "zzz"), ContainsSubstring("no pool 'zzz'"));
}

TEST_CASE("An unknown pool names a near one that the user may use, and no other", "[policy]") {
  Policy policy = policy_with("ab", {"users = [\"alice\"]"});
  policy.pools[0].name = "fast-ethernet";
  CHECK_THAT(choice(policy, alice(), "fast-ethrenet"), ContainsSubstring("did you mean 'fast-ethernet'?"));
  CHECK_THAT(choice(policy, Caller{}, "fast-ethrenet"), !ContainsSubstring("did you mean"));
}

TEST_CASE("A policy without pools is an error only when one is needed", "[policy]") {
  const Policy policy = parse_policy("version = 1\n[images]\npaths = [\"/opt\"]\n", "policy.toml");
  CHECK(policy.pools.empty());
  CHECK_THAT(choice(policy, alice()), ContainsSubstring("policy.toml has no [[pool]]"));
}

TEST_CASE("Paths are compared by whole components", "[policy]") {
  const Names directories = {"/scratch", "/opt/images/a.sif"};
  CHECK(is_below("/scratch/x", directories));
  CHECK(is_below("/scratch", directories));
  CHECK(is_below("/opt/images/a.sif", directories));
  CHECK_FALSE(is_below("/scratch2", directories));
  CHECK_FALSE(is_below("/opt/images", directories));
  CHECK_FALSE(is_below("/scratch", Names{}));
}
