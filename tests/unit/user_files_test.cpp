#include "launcher/image/user_files.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/system/mounts.hpp"

using namespace berth;

TEST_CASE("the user's line comes first, and only where it is missing") {
  const Credentials alice{1000, 1000, {}};
  const std::string image = "root:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash";
  CHECK(add_user_line(image, "alice", alice, "/home/alice") ==
        "alice:x:1000:1000:alice:/home/alice:/bin/sh\n" + image + '\n');
  CHECK(add_user_line(image, "ubuntu", alice, "/home/alice") == image);
  CHECK(add_user_line("", "alice", alice, "") == "alice:x:1000:1000:alice:/:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n");
  CHECK(add_user_line("broken line\n", "alice", alice, "/h") == "alice:x:1000:1000:alice:/h:/bin/sh\nbroken line\n");
}

TEST_CASE("a name or home that would forge a line is not written") {
  const Credentials alice{1000, 1000, {}};
  const std::string image = "root:x:0:0::/:/bin/sh\n";
  CHECK(add_user_line(image, "a:b", alice, "/h") == image);
  CHECK(add_user_line(image, "a\nroot", alice, "/h") == image);
  CHECK(add_user_line(image, "a", alice, "/h\nx:x:0") == image);
}

TEST_CASE("groups that the image lacks get the host's names") {
  const std::string host = "sudo:x:27:alice\nstaff:x:50:\n";
  CHECK(add_group_lines("root:x:0:\nwheel:x:27:\n", host, "alice", {1000, 1001, {1001, 27, 50, 60}}) ==
        "root:x:0:\nwheel:x:27:\nalice:x:1001:\nstaff:x:50:\ng60:x:60:\n");
  CHECK(add_group_lines("", "", "", {1000, 1001, {}}) == "root:x:0:\ng1001:x:1001:\n");
}

TEST_CASE("mountinfo is parsed, escapes and optional fields included") {
  const auto entries = parse_mountinfo(
      "22 27 0:21 / /proc rw,relatime shared:3 master:4 - proc proc rw,hidepid=invisible\n"
      "23 27 0:22 / /a\\040b\\134 rw - tmpfs none rw\n"
      "garbage\n24 x 0:1 / / rw - ext4 /dev/vda rw\n25 1 0:1 / /cut rw -");
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].id == 22);
  CHECK(entries[0].parent == 27);
  CHECK(entries[0].point == "/proc");
  CHECK(entries[0].type == "proc");
  CHECK(entries[0].super_options == "rw,hidepid=invisible");
  CHECK(entries[1].point == "/a b\\");
}
