#include "launcher/broker/relay.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/broker/protocol.hpp"
#include "launcher/system/namespaces.hpp"
#include "tests/namespaces/private_namespaces.hpp"

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

namespace berth {
namespace {

constexpr std::uint16_t kPort = 41000;
const Credentials kUser{.uid = 4242, .gid = 4242, .groups = {}};

sockaddr_in loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// A PMIx server's port on the host's side, a rank's network namespace, and the relay between them.
class RelaySite {
 public:
  RelaySite() {
    testing::enter_private_namespaces();
    testing::run("ip link set lo up");
    const sockaddr_in address = loopback();
    server_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(server_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(server_.get(), 8) == 0);
    netns_ = create_netns();
    {
      const NetnsGuard inside(netns_);
      testing::run("ip link set lo up");
    }
    // The rank first: it must not hold a copy of the broker's end of the relay's socket.
    rank_.emplace([] { drop_to_user(kUser); });
    relay_ = start_relay(kUser);
  }

  /// What a rank does in task_init.
  void offer() {
    auto [rank_end, relay_end] = make_socket_pair();
    const UniqueFd pidfd(pidfd_open(rank_->pid(), 0));
    send_message(relay_.control.get(), {{"berth", 5}}, {relay_end.get(), pidfd.get()});
    const NetnsGuard inside(netns_);
    offer_pmix_listener(rank_end.get(), kPort);
  }

  [[nodiscard]] UniqueFd connect_as_rank() const {
    const NetnsGuard inside(netns_);
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback();
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd.reset();
    return fd;
  }
  [[nodiscard]] UniqueFd accept_as_server() const {
    pollfd wait{server_.get(), POLLIN, 0};
    REQUIRE(poll(&wait, 1, 5000) == 1);
    return UniqueFd(accept4(server_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 protected:
  UniqueFd server_;
  UniqueFd netns_;
  RelayProcess relay_;
  std::optional<testing::Child> rank_;
};

std::string receive_exactly(int fd, std::size_t size) {
  std::string text(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, 5000) != 1) break;
    const ssize_t n = recv(fd, text.data() + have, size - have, 0);
    if (n <= 0) break;
    have += static_cast<std::size_t>(n);
  }
  text.resize(have);
  return text;
}

int pid_of(const UniqueFd& pidfd) {
  const std::string info = read_file(AT_FDCWD, "/proc/self/fdinfo/" + std::to_string(pidfd.get()));
  return std::stoi(info.substr(info.find("Pid:") + 4));
}

bool ends(int pidfd) {
  pollfd wait{pidfd, POLLIN, 0};
  return poll(&wait, 1, 5000) == 1;
}

TEST_CASE_METHOD(RelaySite,
                 "the relay joins a rank's loopback to the host's, in both directions and to the last byte") {
  CHECK_FALSE(connect_as_rank());
  offer();
  const UniqueFd client = connect_as_rank();
  REQUIRE(client);
  const UniqueFd server = accept_as_server();
  REQUIRE(send(client.get(), "hello", 5, 0) == 5);
  CHECK(receive_exactly(server.get(), 5) == "hello");

  // More than sockets and relay can hold at once, so that it has to wait for the reader.
  const std::string much(std::size_t{8} << 20, 'x');
  const testing::Child writer([&] {
    if (fork() == 0) {
      std::size_t sent = 0;
      while (sent < much.size()) {
        const ssize_t n = send(server.get(), much.data() + sent, much.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<std::size_t>(n);
      }
      shutdown(server.get(), SHUT_WR);
      _exit(0);
    }
  });
  CHECK(receive_exactly(client.get(), much.size() + 1) == much);
  // The server has said all; the rank may still answer.
  REQUIRE(send(client.get(), "bye", 3, 0) == 3);
  CHECK(receive_exactly(server.get(), 3) == "bye");
}

TEST_CASE_METHOD(RelaySite, "when the last rank of a berth ends, the relay holds no socket of it and says so") {
  offer();
  const UniqueFd client = connect_as_rank();
  const UniqueFd server = accept_as_server();
  rank_->kill();
  const auto message = receive_message(relay_.control.get());
  REQUIRE(message);
  CHECK(message->body.at("closed") == 5);
  CHECK(receive_exactly(server.get(), 1).empty());
  CHECK_FALSE(connect_as_rank());
}

TEST_CASE_METHOD(RelaySite, "a rank does not outlive its broker") {
  offer();
  const UniqueFd pidfd(pidfd_open(rank_->pid(), 0));
  relay_.control.reset();
  CHECK(ends(relay_.pidfd.get()));
  CHECK(ends(pidfd.get()));
}

TEST_CASE_METHOD(RelaySite, "the relay has the user's rights and none of the broker's descriptors") {
  offer();
  const UniqueFd client = connect_as_rank();
  const UniqueFd server = accept_as_server();  // it serves, so it has dropped its rights
  const std::string process = "/proc/" + std::to_string(pid_of(relay_.pidfd));
  const std::string status = read_file(AT_FDCWD, process + "/status");
  CHECK(status.find("Uid:\t4242\t4242\t4242\t4242") != std::string::npos);
  CHECK(status.find("CapEff:\t0000000000000000") != std::string::npos);
  CHECK(status.find("CapBnd:\t0000000000000000") != std::string::npos);
  CHECK(status.find("NoNewPrivs:\t1") != std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(process + "/fd"))
    CHECK_FALSE(std::filesystem::read_symlink(entry).string().starts_with("net:["));  // as netns_ was open at its fork
}

}  // namespace
}  // namespace berth
