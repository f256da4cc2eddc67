// Records between processes: a text with descriptors beside it, over a pair of SOCK_SEQPACKET sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {

struct Record {
  std::string text;
  std::vector<UniqueFd> fds;
};

/// Sends one record; `fds` stay with the caller. Throws Error{internal}; EPIPE says that the peer is gone.
void send_record(int socket, std::string_view text, const std::vector<int>& fds = {});
/// Receives one record of at most 256 KiB and 16 descriptors (all close-on-exec); nullopt: the peer closed. Throws
/// Error{internal}.
std::optional<Record> receive_record(int socket);
/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec.
std::pair<UniqueFd, UniqueFd> make_socket_pair();

}  // namespace berth
