#include "launcher/enter/enter.hpp"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/error_json.hpp"
#include "launcher/image/child.hpp"
#include "launcher/system/privileges.hpp"
#include "launcher/system/records.hpp"
#include "tests/namespaces/image_site.hpp"

using namespace berth;
using berth::testing::ImageSite;

namespace {

// As a service manager may start slurmd: what is inheritable and ambient survives a change of user by exec.
void make_capability_inheritable(unsigned capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, sets) != 0) _exit(1);
  sets[CAP_TO_INDEX(capability)].inheritable |= CAP_TO_MASK(capability);
  if (syscall(SYS_capset, &header, sets) != 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
    _exit(1);
}

}  // namespace

TEST_CASE("a rank inherits no capability of the process that started it") {
  const ImageSite site;
  const auto left_over = [&](bool prepare) {
    return ask_child("cannot run the rank", std::chrono::seconds(10),
                     [&] {
                       make_capability_inheritable(CAP_NET_RAW);
                       Entry entry;
                       enter_as_root(entry);
                       if (prepare) {
                         prepare_drop_to_user();
                       } else {
                         drop_bounding_set();
                       }
                       if (setresgid(4243, 4243, 4243) != 0 || setresuid(4242, 4242, 4242) != 0) _exit(1);
                       return ChildAnswer{testing::refusal([] { verify_unprivileged(4242, 4243); }), {}};
                     })
        .text;
  };
  CHECK(left_over(false).find("capabilities are left") != std::string::npos);
  CHECK(left_over(true).empty());
}

// The broker refuses the others when this connection ends, and mpirun ends all ranks when the first one has failed.
TEST_CASE("a refused rank stays connected until it has told the user why") {
  auto [rank, broker] = make_socket_pair();
  send_message(broker.get(), to_json_value(Error(ErrorCode::busy, "cannot give you a device", "none is free")));
  char byte = 0;
  const auto is_connected = [&, end = broker.get()] {
    ssize_t received = 0;
    while ((received = recv(end, &byte, sizeof byte, MSG_DONTWAIT)) > 0) continue;
    return received < 0;
  };
  {
    Entry entry;
    CHECK_THROWS_AS(request_entry(entry, std::move(rank), {{"local_rank", 0}}, nullptr), Error);
    CHECK(is_connected());
  }
  CHECK_FALSE(is_connected());
}
