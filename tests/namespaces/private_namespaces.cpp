#include "tests/namespaces/private_namespaces.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace berth::testing {

void enter_private_namespaces() {
  static bool entered = false;
  if (geteuid() != 0) {
    const char* must_run = std::getenv("BERTH_TESTS_MUST_RUN");
    if (must_run && std::strcmp(must_run, "1") == 0) FAIL("these tests must run, but not as root they cannot");
    SKIP("needs root");
  }
  // A new netns for every test costs less than deleting the devices of the last one.
  REQUIRE(unshare(CLONE_NEWNET | (entered ? 0 : CLONE_NEWNS)) == 0);
  if (!entered) REQUIRE(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  entered = true;
  run("ip link set lo up");
}

void run(const std::string& command) {
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

int count_successes(int count, const std::function<bool(int)>& body) {
  // All wait for the pipe's end to be closed, so that they start together.
  int gate[2];
  REQUIRE(pipe(gate) == 0);
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      close(gate[1]);
      char byte = 0;
      bool good = read(gate[0], &byte, 1) == 0;
      try {
        good = good && body(i);
      } catch (...) {
        good = false;
      }
      _exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  close(gate[0]);
  close(gate[1]);
  int successes = 0;
  for (const pid_t pid : children) {
    int status = 1;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ++successes;
  }
  return successes;
}

void kill_while_repeating(const std::function<void()>& body, std::chrono::nanoseconds delay) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    try {
      for (;;) body();
    } catch (...) {
      _exit(1);
    }
  }
  std::this_thread::sleep_for(delay);
  ::kill(pid, SIGKILL);
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  CHECK(WIFSIGNALED(status));
}

TemporaryDirectory::TemporaryDirectory() {
  char name[] = "/tmp/berth-test-XXXXXX";
  REQUIRE(mkdtemp(name) != nullptr);
  path_ = name;
  REQUIRE(mount("tmpfs", path_.c_str(), "tmpfs", 0, "mode=0755") == 0);
}

TemporaryDirectory::~TemporaryDirectory() {
  umount2(path_.c_str(), MNT_DETACH);
  rmdir(path_.c_str());
}

Child::Child(const std::function<void()>& body) {
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    close(ready[0]);
    try {
      body();
    } catch (...) {
      _exit(1);
    }
    if (write(ready[1], "x", 1) != 1) _exit(1);
    close(ready[1]);
    for (;;) pause();
  }
  close(ready[1]);
  char byte = 0;
  const bool is_ready = read(ready[0], &byte, 1) == 1;
  close(ready[0]);
  REQUIRE(is_ready);
}

Child::~Child() { kill(); }

bool Child::was_killed() {
  int status = 0;
  const bool ended = waitpid(pid_, &status, WNOHANG) == pid_;
  if (ended) pid_ = -1;
  return ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace berth::testing
