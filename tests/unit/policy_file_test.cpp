#include "launcher/system/policy_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "launcher/core/error.hpp"
#include "tests/unit/temporary_directory.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string refusal(const std::string& path, bool require_root_owner) {
  try {
    read_policy_file(path, require_root_owner);
  } catch (const Error& error) {
    CHECK(error.code == ErrorCode::policy);
    return error.render();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("A missing policy file says what that means", "[policy_file]") {
  const TemporaryDirectory tree;
  const std::string text = refusal(tree.path("policy.toml"), false);
  CHECK_THAT(text, ContainsSubstring("no policy file") && ContainsSubstring("nothing that needs privileges"));
  CHECK_THAT(refusal(tree.path("no/directory/policy.toml"), false), ContainsSubstring("no policy file"));
}

TEST_CASE("A policy file anywhere can be read to be shown", "[policy_file]") {
  const TemporaryDirectory tree;
  tree.file("policy.toml", "version = 1\n");
  CHECK(read_policy_file(tree.path("policy.toml"), false).source == tree.path("policy.toml"));
}

TEST_CASE("Symlinks, directories, FIFOs and huge files are no policy", "[policy_file]") {
  const TemporaryDirectory tree;
  tree.file("policy.toml", "version = 1\n");
  tree.link("link", "policy.toml");
  tree.directory("real");
  tree.file("real/policy.toml", "version = 1\n");
  tree.link("alias", "real");
  REQUIRE(mkfifo(tree.path("fifo").c_str(), 0600) == 0);
  tree.file("huge", std::string((1 << 20) + 1, '#'));
  CHECK_THAT(refusal(tree.path("link"), false), ContainsSubstring("'link' in its path is a symbolic link"));
  CHECK_THAT(refusal(tree.path("alias/policy.toml"), false), ContainsSubstring("symbolic link"));
  CHECK_THAT(refusal(tree.path("real"), false), ContainsSubstring("not a regular file"));
  CHECK_THAT(refusal(tree.path("real/"), false), ContainsSubstring("not a regular file"));
  CHECK_THAT(refusal(tree.path("fifo"), false), ContainsSubstring("not a regular file"));
  CHECK_THAT(refusal(tree.path("huge"), false), ContainsSubstring("larger than 1 MiB"));
  CHECK_THAT(refusal(tree.path("policy.toml/x"), false), ContainsSubstring("Not a directory"));
}

TEST_CASE("Where privileges follow from it, others than root must not have been able to write it", "[policy_file]") {
  if (geteuid() != 0) SKIP("needs root to make files of root's");
  const TemporaryDirectory tree;  // below a directory that everybody may write, like /tmp
  tree.file("policy.toml", "version = 1\n");
  CHECK_THAT(refusal(tree.path("policy.toml"), true), ContainsSubstring("can be written by others than root"));

  char base[] = "/run/berth-test-XXXXXX";  // root's all the way up
  REQUIRE(mkdtemp(base) != nullptr);
  const std::string directory = base;
  const std::string path = directory + "/policy.toml";
  std::ofstream(path) << "version = 1\n";
  REQUIRE(chmod(base, 0755) == 0);
  REQUIRE(chmod(path.c_str(), 0644) == 0);
  CHECK(refusal(path, true) == "accepted");
  for (const mode_t mode : {0664U, 0646U, 0666U}) {
    REQUIRE(chmod(path.c_str(), mode) == 0);
    CHECK_THAT(refusal(path, true), ContainsSubstring("can be written by others than root"));
  }
  REQUIRE(chmod(path.c_str(), 0644) == 0);
  REQUIRE(chown(path.c_str(), 1000, 0) == 0);
  CHECK_THAT(refusal(path, true), ContainsSubstring("belongs to user 1000"));
  REQUIRE(chown(path.c_str(), 0, 0) == 0);
  REQUIRE(chmod(base, 01777) == 0);
  CHECK_THAT(refusal(path, true), ContainsSubstring("can be written by others than root (mode 1777)"));
  REQUIRE(chmod(base, 0755) == 0);
  REQUIRE(chown(base, 1000, 0) == 0);
  CHECK_THAT(refusal(path, true), ContainsSubstring("belongs to user 1000"));
  std::filesystem::remove_all(directory);
}
