#include "launcher/image/child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>

#include "launcher/system/mounts.hpp"
#include "launcher/system/privileges.hpp"
#include "tests/namespaces/image_site.hpp"

using namespace berth;
using berth::testing::holds;
using berth::testing::refusal;

namespace {

constexpr std::chrono::seconds kPatience{10};

bool is_reaped(pid_t child) { return waitpid(child, nullptr, WNOHANG) < 0 && errno == ECHILD; }

}  // namespace

TEST_CASE("a child answers with a text and a descriptor") {
  const auto memory = GENERATE(ChildMemory::copied, ChildMemory::shared);
  const pid_t parent = getpid();
  const ChildAnswer answer = ask_child(
      "cannot ask", kPatience,
      [&] {
        return ChildAnswer{getppid() == parent ? std::to_string(getpid()) : "not a child",
                           UniqueFd(open("/dev/zero", O_RDONLY | O_CLOEXEC))};
      },
      memory);
  INFO(answer.text);
  const pid_t child = std::stoi(answer.text);
  CHECK(child != parent);
  CHECK(is_reaped(child));
  REQUIRE(answer.fd);
  CHECK(read_path(answer.fd.get()) == "/dev/zero");
}

TEST_CASE("what goes wrong in a child is an error of its parent") {
  const auto memory = GENERATE(ChildMemory::copied, ChildMemory::shared);
  const auto refused = [&](std::chrono::milliseconds patience, const std::function<ChildAnswer()>& work) {
    return refusal([&] { ask_child("cannot ask", patience, work, memory); });
  };
  CHECK(refused(kPatience, []() -> ChildAnswer {
          throw Error(ErrorCode::image, "no image", "it is none", "buy one");
        }) == "image berth: no image\n  why: it is none\n  fix: buy one");
  holds(refused(kPatience, []() -> ChildAnswer { throw std::runtime_error("out of order"); }), "out of order");
  holds(refused(kPatience,
                []() -> ChildAnswer {
                  raise(SIGKILL);
                  return {};
                }),
        "was killed by signal 9");
  holds(refused(kPatience, []() -> ChildAnswer { _exit(0); }), "ended without an answer");
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd here(ends[0]), there(ends[1]);
  holds(refused(std::chrono::milliseconds(500),
                [&]() -> ChildAnswer {
                  const pid_t child = getpid();
                  if (write(there.get(), &child, sizeof child) != sizeof child) return {};
                  for (;;) pause();
                }),
        "no answer within 0.5 s");
  pid_t child = 0;
  REQUIRE(read(here.get(), &child, sizeof child) == sizeof child);
  CHECK(is_reaped(child));
}

TEST_CASE("a child has descriptors, a directory and file system ids of its own, whatever memory it works in") {
  const auto memory = GENERATE(ChildMemory::copied, ChildMemory::shared);
  const UniqueFd mine(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::filesystem::path directory = std::filesystem::current_path();
  const std::string seen = ask_child(
                               "cannot ask", kPatience,
                               [&] {
                                 close(mine.get());
                                 const bool moved = chdir("/proc") == 0;
                                 const FileAccessAs access({4242, 4243, {4243}});
                                 return ChildAnswer{moved ? "moved" : "stuck", {}};
                               },
                               memory)
                               .text;
  CHECK(seen == "moved");
  CHECK(read_path(mine.get()) == "/dev/null");
  CHECK(std::filesystem::current_path() == directory);
  CHECK(prctl(PR_GET_DUMPABLE) == 1);
  sigset_t blocked;
  REQUIRE(pthread_sigmask(SIG_SETMASK, nullptr, &blocked) == 0);
  CHECK(sigismember(&blocked, SIGTERM) == 0);
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("memory is copied or shared, as asked for") {
  int number = 0;
  const auto change = [&] {
    number = 1;
    return ChildAnswer{};
  };
  ask_child("cannot ask", kPatience, change);
  CHECK(number == 0);
  ask_child("cannot ask", kPatience, change, ChildMemory::shared);
  CHECK(number == 1);
}
#endif
