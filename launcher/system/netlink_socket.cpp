#include "launcher/system/netlink_socket.hpp"

#include <fmt/format.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

constexpr int kRedumps = 8;

/// The longest answer is that about a PF with a few hundred VFs, which the kernel gives in one piece.
constexpr std::size_t kBufferSize = std::size_t{256} << 10U;

/// The kernel's extended acknowledgement, which follows the (capped) error message.
std::string parse_kernel_words(nlmsghdr* header) {
  if (!(header->nlmsg_flags & NLM_F_ACK_TLVS)) return {};
  const int skip = static_cast<int>(sizeof(nlmsgerr));
  if (nlmsg_datalen(header) <= skip) return {};
  const auto* words = nla_find(reinterpret_cast<nlattr*>(static_cast<char*>(nlmsg_data(header)) + NLMSG_ALIGN(skip)),
                               nlmsg_datalen(header) - skip, NLMSGERR_ATTR_MSG);
  return words ? parse_netlink_text(words) : std::string{};
}

}  // namespace

void FreeNetlinkMessage::operator()(nl_msg* message) const { nlmsg_free(message); }

NetlinkMessage make_netlink_message(int type, int flags, const void* header, std::size_t size) {
  NetlinkMessage message(nlmsg_alloc_simple(type, flags | NLM_F_REQUEST));
  // libnl takes no pointer to const, but only reads.
  if (!message || (size > 0 && nlmsg_append(message.get(), const_cast<void*>(header), size, NLMSG_ALIGNTO) < 0))
    throw Error(ErrorCode::host, "cannot speak netlink", "out of memory");
  return message;
}

void put(const NetlinkMessage& message, int attribute, const void* data, std::size_t size) {
  if (nla_put(message.get(), attribute, static_cast<int>(size), data) < 0)
    throw Error(ErrorCode::host, "cannot speak netlink", "message too long");
}
void put(const NetlinkMessage& message, int attribute, unsigned value) {
  put(message, attribute, &value, sizeof value);
}
void put(const NetlinkMessage& message, int attribute, const std::string& text) {
  put(message, attribute, text.c_str(), text.size() + 1);
}

std::string parse_netlink_text(const nlattr* attribute) {
  const char* text = static_cast<const char*>(nla_data(attribute));
  return {text, strnlen(text, static_cast<std::size_t>(nla_len(attribute)))};
}

void NetlinkSocket::Free::operator()(nl_sock* socket) const { nl_socket_free(socket); }

NetlinkSocket::NetlinkSocket(int protocol)
    : socket_(nl_socket_alloc()), buffer_(std::make_unique_for_overwrite<char[]>(kBufferSize)) {
  if (!socket_) throw Error(ErrorCode::host, "cannot open a netlink socket", "out of memory");
  if (const int result = nl_connect(socket_.get(), protocol); result < 0)
    throw Error(ErrorCode::host, "cannot open a netlink socket", nl_geterror(result));
  const int one = 1;
  // Both only make messages better and shorter: older kernels may refuse them.
  setsockopt(fd(), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(fd(), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
}

int NetlinkSocket::receive(unsigned sequence, bool is_dump, const OnMessage& on_message) {
  bool interrupted = false;
  for (;;) {
    const ssize_t size = recv(fd(), buffer_.get(), kBufferSize, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno;
    auto left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer_.get()); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left)) {
      // Events, and the rest of an answer that was given up, are not ours.
      if (header->nlmsg_seq != sequence || header->nlmsg_pid != nl_socket_get_local_port(socket_.get())) continue;
      if (header->nlmsg_flags & NLM_F_DUMP_INTR) interrupted = true;
      if (header->nlmsg_type == NLMSG_ERROR) {
        const int error_number = -static_cast<const nlmsgerr*>(nlmsg_data(header))->error;
        kernel_words_ = error_number ? parse_kernel_words(header) : std::string{};
        return error_number;
      }
      if (header->nlmsg_type == NLMSG_DONE) return interrupted ? EINTR : 0;
      if (on_message) on_message(header);
    }
    if (!is_dump && size == 0) return EIO;
  }
}

int NetlinkSocket::transact(nl_msg* message, const OnMessage& on_message) {
  const int flags = nlmsg_hdr(message)->nlmsg_flags;
  const bool is_dump = (flags & NLM_F_DUMP) == NLM_F_DUMP;
  if (!is_dump) nlmsg_hdr(message)->nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_ACK);
  kernel_words_.clear();
  nl_complete_msg(socket_.get(), message);
  if (const int result = nl_send(socket_.get(), message); result < 0) {
    kernel_words_ = nl_geterror(result);
    return EIO;
  }
  return receive(nlmsg_hdr(message)->nlmsg_seq, is_dump, on_message);
}

int NetlinkSocket::dump(const std::function<NetlinkMessage()>& make, const std::function<void()>& restart,
                        const OnMessage& on_message) {
  int error_number = 0;
  for (int attempt = 0; attempt < kRedumps; ++attempt) {
    restart();
    const NetlinkMessage message = make();
    error_number = transact(message.get(), on_message);
    // A list that changed while it was read, or lost a part, must not be acted upon.
    if (error_number != EINTR && error_number != ENOBUFS) break;
  }
  return error_number;
}

std::string NetlinkSocket::origin() const {
  return kernel_words_.empty() ? "netlink" : fmt::format("netlink says '{}'", kernel_words_);
}

bool NetlinkSocket::join(int group) { return nl_socket_add_membership(socket_.get(), group) >= 0; }
void NetlinkSocket::leave(int group) { nl_socket_drop_membership(socket_.get(), group); }
int NetlinkSocket::fd() const { return nl_socket_get_fd(socket_.get()); }

}  // namespace berth
