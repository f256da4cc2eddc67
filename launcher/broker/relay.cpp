#include "launcher/broker/relay.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "launcher/broker/protocol.hpp"
#include "launcher/system/cgroup.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// Bytes that one side has sent and the other has not taken yet; reading stops above this, so that memory is bounded.
constexpr std::size_t kHighWater = std::size_t{256} << 10;

/// One descriptor that the relay watches.
struct Watched {
  enum class Kind { control, rank_socket, rank_pidfd, listener, connection };
  Watched(Kind kind_, UniqueFd fd_, unsigned berth_) : kind(kind_), fd(std::move(fd_)), berth(berth_) {}

  Kind kind;
  UniqueFd fd;
  unsigned berth;
  std::uint16_t port = 0;    // listener: where the real server listens
  Watched* peer = nullptr;   // connection: the other half
  std::string outgoing;      // connection: to be written to fd
  bool read_ended = false;   // connection: fd will deliver no more
  bool write_ended = false;  // connection: shutdown(SHUT_WR) was done
  bool hung_up = false;      // connection: closed in both directions, and no longer watched
};

class Relay {
 public:
  explicit Relay(UniqueFd control) : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    add(Watched::Kind::control, std::move(control), 0);
  }

  /// Returns when the broker is gone; then no rank of it may live on.
  void run() {
    std::array<epoll_event, 64> events{};
    while (!broker_gone_) {
      const int n = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      if (n < 0 && errno != EINTR) break;
      for (int i = 0; i < n; ++i) {
        auto* watched = static_cast<Watched*>(events[static_cast<std::size_t>(i)].data.ptr);
        if (watched_.contains(watched)) handle(*watched, events[static_cast<std::size_t>(i)].events);
      }
      graveyard_.clear();
    }
    for (const auto& [key, watched] : watched_)
      if (watched->kind == Watched::Kind::rank_pidfd) pidfd_send_signal(watched->fd.get(), SIGKILL, nullptr, 0);
  }

 private:
  Watched* add(Watched::Kind kind, UniqueFd fd, unsigned berth) {
    if (kind == Watched::Kind::listener || kind == Watched::Kind::connection)
      fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
    auto owned = std::make_unique<Watched>(kind, std::move(fd), berth);
    Watched* watched = owned.get();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = watched;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watched->fd.get(), &event) != 0) return nullptr;
    watched_.emplace(watched, std::move(owned));
    return watched;
  }

  // The object lives until the current batch of events is done: a later event of the batch may still point to it.
  void drop(Watched& watched) {
    if (watched.peer != nullptr) watched.peer->peer = nullptr;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watched.fd.get(), nullptr);
    watched.fd.reset();
    auto node = watched_.extract(&watched);
    if (!node.empty()) graveyard_.push_back(std::move(node.mapped()));
  }

  void handle(Watched& watched, std::uint32_t events) {
    switch (watched.kind) {
      case Watched::Kind::control:
        return accept_rank(watched);
      case Watched::Kind::rank_socket:
        return accept_listener(watched);
      case Watched::Kind::rank_pidfd:
        return forget_rank(watched);
      case Watched::Kind::listener:
        return accept_client(watched);
      case Watched::Kind::connection:
        return shovel(watched, events);
    }
  }

  void accept_rank(Watched& control) {
    auto message = receive_message(control.fd.get());
    if (!message) {
      broker_gone_ = true;
      return;
    }
    if (message->fds.size() != 2) return;
    const auto berth = message->body.value("berth", 0U);
    if (add(Watched::Kind::rank_socket, std::move(message->fds[0]), berth) != nullptr &&
        add(Watched::Kind::rank_pidfd, std::move(message->fds[1]), berth) != nullptr)
      ++ranks_[berth];
  }

  void accept_listener(Watched& rank) {
    auto message = receive_message(rank.fd.get());
    if (!message) return drop(rank);
    if (message->fds.size() != 1) return;
    if (Watched* listener = add(Watched::Kind::listener, std::move(message->fds[0]), rank.berth))
      listener->port = message->body.value("port", std::uint16_t{0});
  }

  // A listener pins its network namespace: it must go with the last rank of the berth, or the berth is never empty.
  void forget_rank(Watched& pidfd) {
    const unsigned berth = pidfd.berth;
    drop(pidfd);
    if (--ranks_[berth] > 0) return;
    std::vector<Watched*> leftovers;
    for (const auto& [key, watched] : watched_)
      if (watched->kind != Watched::Kind::control && watched->berth == berth) leftovers.push_back(watched.get());
    for (Watched* leftover : leftovers) drop(*leftover);
    for (const auto& [key, watched] : watched_)
      if (watched->kind == Watched::Kind::control) send_message(watched->fd.get(), {{"closed", berth}});
  }

  void accept_client(Watched& listener) {
    UniqueFd client(accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(listener.port);
    if (!server || connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
    const int on = 1;
    setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(server.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Watched* a = add(Watched::Kind::connection, std::move(client), listener.berth);
    Watched* b = add(Watched::Kind::connection, std::move(server), listener.berth);
    if (a == nullptr || b == nullptr) {
      if (a != nullptr) drop(*a);
      if (b != nullptr) drop(*b);
      return;
    }
    a->peer = b;
    b->peer = a;
  }

  void shovel(Watched& end, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush(end);
    Watched* peer = end.peer;
    if (peer == nullptr) return drop(end);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !end.read_ended) {
      std::array<char, 65536> buffer;
      const ssize_t n = recv(end.fd.get(), buffer.data(), buffer.size(), 0);
      if (n > 0) {
        peer->outgoing.append(buffer.data(), static_cast<std::size_t>(n));
      } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        end.read_ended = true;
      }
      flush(*peer);
    }
    // epoll reports a hang-up for ever, whatever is asked for: stop watching, and go when the peer has taken the rest.
    if (end.read_ended && (events & (EPOLLHUP | EPOLLERR)) != 0 && !end.hung_up) {
      end.outgoing.clear();
      end.hung_up = true;
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end.fd.get(), nullptr);
    }
    const bool both_ended = (end.read_ended || end.hung_up) && (peer->read_ended || end.hung_up);
    if (both_ended && end.outgoing.empty() && peer->outgoing.empty()) {
      drop(*peer);
      drop(end);
      return;
    }
    arm(end);
    arm(*peer);
  }

  static void flush(Watched& end) {
    while (!end.outgoing.empty()) {
      const ssize_t n = send(end.fd.get(), end.outgoing.data(), end.outgoing.size(), MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) {  // the reader is gone: what it will not take is lost, as without a relay
          end.outgoing.clear();
          end.read_ended = true;
        }
        break;
      }
      end.outgoing.erase(0, static_cast<std::size_t>(n));
    }
    if (end.outgoing.empty() && end.peer != nullptr && end.peer->read_ended && !end.write_ended) {
      shutdown(end.fd.get(), SHUT_WR);
      end.write_ended = true;
    }
  }

  void arm(Watched& end) {
    if (end.hung_up) return;
    epoll_event event{};
    event.data.ptr = &end;
    const bool full = end.peer != nullptr && end.peer->outgoing.size() > kHighWater;
    event.events = (end.read_ended || full ? 0U : EPOLLIN) | (end.outgoing.empty() ? 0U : EPOLLOUT);
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, end.fd.get(), &event);
  }

  UniqueFd epoll_;
  std::map<Watched*, std::unique_ptr<Watched>> watched_;
  std::vector<std::unique_ptr<Watched>> graveyard_;
  std::map<unsigned, int> ranks_;  // living ranks per berth
  bool broker_gone_ = false;
};

[[noreturn]] void be_relay(UniqueFd control, const Credentials& user) noexcept {
  try {
    prctl(PR_SET_NAME, "berth-relay");
    // Only the control socket may stay: a lock or mount descriptor of the broker would outlive it here.
    if (dup2(control.get(), STDERR_FILENO + 1) < 0) _exit(kExitRefused);
    control.release();
    close_range(STDERR_FILENO + 2, ~0U, 0);
    UniqueFd kept(STDERR_FILENO + 1);
    fcntl(kept.get(), F_SETFD, FD_CLOEXEC);
    drop_to_user(user);
    Relay(std::move(kept)).run();
  } catch (...) {
    _exit(kExitRefused);
  }
  _exit(0);
}

}  // namespace

RelayProcess start_relay(const Credentials& user, int cgroup) {
  auto [mine, its] = make_socket_pair();
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, "cannot start the relay", "fork");
  if (pid == 0) {
    mine.reset();
    join_cgroup(cgroup);
    be_relay(std::move(its), user);
  }
  UniqueFd pidfd(pidfd_open(pid, 0));
  if (!pidfd) throw system_error(errno, "cannot watch the relay", "pidfd_open");
  return {std::move(mine), std::move(pidfd)};
}

std::optional<std::uint16_t> parse_pmix_port(std::string_view uri) {
  constexpr std::string_view kPrefix = "tcp4://127.0.0.1:";
  const auto at = uri.find(kPrefix);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = uri.substr(at + kPrefix.size());
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || port == 0) return std::nullopt;
  return port;
}

void offer_pmix_listener(int relay_socket, std::uint16_t port) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  // The previous tenant of the berth may have left a connection in TIME_WAIT on the same port.
  const int on = 1;
  if (listener) setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!listener || bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    if (errno == EADDRINUSE) return;
    throw system_error(errno, fmt::format("cannot listen for PMIx clients on port {}", port), "bind");
  }
  send_message(relay_socket, {{"port", port}}, {listener.get()});
}

}  // namespace berth
