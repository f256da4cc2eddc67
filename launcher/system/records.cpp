#include "launcher/system/records.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace berth {

namespace {

constexpr std::size_t kMaxRecord = std::size_t{256} << 10;
constexpr std::size_t kMaxFds = 16;

Error failure(int error_number, std::string what, std::string_view operation) {
  Error error = system_error(error_number, std::move(what), operation);
  error.code = ErrorCode::internal;
  return error;
}

Error too_long() {
  return {ErrorCode::internal, "cannot receive from another process of Berth", "the message is too long"};
}

}  // namespace

void send_record(int socket, std::string_view text, const std::vector<int>& fds) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) throw failure(errno, "cannot send to another process of Berth", "sendmsg");
}

std::optional<Record> receive_record(int socket) {
  ssize_t size = 0;
  while ((size = recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC)) < 0 && errno == EINTR) continue;
  if (size > static_cast<ssize_t>(kMaxRecord)) throw too_long();
  Record record;
  record.text.resize(static_cast<std::size_t>(size > 0 ? size : 1));
  iovec part{record.text.data(), record.text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t received = 0;
  while ((received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EINTR) continue;
    if (errno == ECONNRESET) return std::nullopt;
    throw failure(errno, "cannot receive from another process of Berth", "recvmsg");
  }
  if (received == 0) return std::nullopt;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      record.fds.emplace_back(fd);
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) throw too_long();
  record.text.resize(static_cast<std::size_t>(received));
  return record;
}

std::pair<UniqueFd, UniqueFd> make_socket_pair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw system_error(errno, "cannot make a socket pair", "socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace berth
