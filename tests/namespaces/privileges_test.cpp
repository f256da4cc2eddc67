#include "launcher/system/privileges.hpp"

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <functional>

#include "launcher/core/error.hpp"
#include "launcher/image/child.hpp"
#include "tests/namespaces/image_site.hpp"
#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::ImageSite;
using berth::testing::refusal;
using berth::testing::run;
using berth::testing::slurp;

namespace {

constexpr std::chrono::seconds kPatience{10};

std::string in_child(const std::function<std::string()>& body) {
  return ask_child("cannot run the child", kPatience, [&] { return ChildAnswer{body(), {}}; }).text;
}

}  // namespace

TEST_CASE("an exec label that the kernel refuses is an error that names it") {
  const std::string text = in_child([] { return refusal([] { apply_exec_label("berth_no_such_t"); }); });
  CHECK(text.find("'berth_no_such_t'") != std::string::npos);
  CHECK(text.find("selinux_label in the policy") != std::string::npos);
}

TEST_CASE("what drops to a user has no privileges and no way back") {
  const ImageSite site;
  const std::string status = in_child([&] {
    drop_to_user(site.user);
    const bool stuck = setreuid(static_cast<uid_t>(-1), 0) != 0 && setresuid(0, 0, 0) != 0 && setegid(0) != 0;
    return std::string(stuck ? "stuck\n" : "back\n") + slurp("/proc/thread-self/status");
  });
  INFO(status);
  CHECK(status.starts_with("stuck"));
  for (const char* line : {"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                           "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1",
                           "Uid:\t4242\t4242\t4242\t4242", "Gid:\t4243\t4243\t4243\t4243", "Groups:\t4243 4244 \n"})
    CHECK(status.find(line) != std::string::npos);
}

TEST_CASE("privileges that are left are noticed") {
  const ImageSite site;
  const auto verdict = [&](const std::function<void()>& setup) {
    return in_child([&] {
      setup();
      return refusal([&] { verify_unprivileged(site.user.uid, site.user.gid); });
    });
  };
  const auto become = [](gid_t real_group) {
    if (setresgid(real_group, 4243, 4243) != 0 || setresuid(4242, 4242, 4242) != 0) _exit(1);
  };
  CHECK(verdict([] {}).find("user ids are 0/0/0, not 4242") != std::string::npos);
  CHECK(verdict([&] { drop_to_user(site.user); }).empty());
  CHECK(verdict([&] { become(0); }).find("group ids are 0/4243/4243") != std::string::npos);
  CHECK(verdict([&] { become(4243); }).find("left in the bounding set") != std::string::npos);
  CHECK(verdict([&] {
          drop_bounding_set();
          lock_securebits();
          become(4243);
        }).find("capabilities are left") != std::string::npos);
}

TEST_CASE("a child that cannot drop does not go on") {
  const ImageSite site;
  const std::string verdict = in_child([&] {
    drop_to_user(site.user);
    return refusal([&] { drop_to_user({4300, 4300, {}}); });
  });
  CHECK(verdict.starts_with("internal berth: cannot give up privileges"));
}

TEST_CASE("files are opened with the user's rights, and with root's again afterwards") {
  const ImageSite site;
  run("echo a > /mnt/secret && chmod 600 /mnt/secret && mkdir /mnt/group && chown 0:4244 /mnt/group && "
      "chmod 750 /mnt/group && echo b > /mnt/group/file");
  const std::string seen = in_child([&] {
    std::string result;
    {
      const FileAccessAs access(site.user);
      result = slurp("/mnt/secret") + ' ' + slurp("/mnt/group/file");
    }
    return result + slurp("/mnt/secret");
  });
  CHECK(seen == "errno EACCES b\na\n");
}
