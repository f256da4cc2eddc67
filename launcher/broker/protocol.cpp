#include "launcher/broker/protocol.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace berth {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxMessage = std::size_t{256} << 10;
constexpr std::size_t kMaxFds = 16;

/// A received object whose members are read with types checked; anything unexpected is the peer's fault and says so.
class Reader {
 public:
  explicit Reader(const json& object, const char* record) : object_(object), record_(record) {
    if (!object.is_object()) fail("not an object");
  }
  template <typename T>
  T get(const char* key) const {
    try {
      return object_.at(key).get<T>();
    } catch (const json::exception& e) {
      fail(fmt::format("key '{}': {}", key, e.what()));
    }
  }
  [[nodiscard]] CpuSet cpus(const char* key) const {
    auto cpus = parse_cpu_list(get<std::string>(key));
    if (!cpus) fail(fmt::format("key '{}' is not a CPU list", key));
    return *cpus;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorCode::internal, fmt::format("cannot understand a {} message", record_), why,
                "make sure that plugin and broker are of the same version");
  }
  const json& object_;
  const char* record_;
};

json environment_to_json(const std::vector<EnvironmentChange>& changes) {
  json list = json::array();
  for (const auto& change : changes) list.push_back({static_cast<int>(change.action), change.name, change.value});
  return list;
}

std::vector<EnvironmentChange> parse_environment(const json& list) {
  std::vector<EnvironmentChange> changes;
  for (const auto& item : list)
    changes.push_back({static_cast<EnvironmentChange::Action>(item.at(0).get<int>()), item.at(1).get<std::string>(),
                       item.at(2).get<std::string>()});
  return changes;
}

json request_to_json(const Request& request) {
  json mounts = json::array();
  for (const auto& mount : request.mounts) mounts.push_back({mount.source, mount.target, mount.read_only});
  return {{"image", request.image},
          {"pool", request.pool},
          {"mounts", mounts},
          {"environment", environment_to_json(request.environment)},
          {"working_directory", request.working_directory},
          {"pin", request.pin ? json(static_cast<int>(*request.pin)) : json()},
          {"net", static_cast<int>(request.net)},
          {"share", request.share},
          {"wait_seconds", request.wait_seconds},
          {"verbose", request.verbose}};
}

Request parse_request(const json& object) {
  const Reader reader(object, "request");
  Request request;
  request.image = reader.get<std::string>("image");
  request.pool = reader.get<std::string>("pool");
  for (const auto& mount : reader.get<json>("mounts"))
    request.mounts.push_back({mount.at(0).get<std::string>(), mount.at(1).get<std::string>(), mount.at(2).get<bool>()});
  request.environment = parse_environment(reader.get<json>("environment"));
  request.working_directory = reader.get<std::string>("working_directory");
  if (const json pin = reader.get<json>("pin"); !pin.is_null()) request.pin = static_cast<Pin>(pin.get<int>());
  request.net = static_cast<NetScope>(reader.get<int>("net"));
  request.share = reader.get<bool>("share");
  request.wait_seconds = reader.get<unsigned>("wait_seconds");
  request.verbose = reader.get<bool>("verbose");
  return request;
}

}  // namespace

void send_message(int socket, const json& body, const std::vector<int>& fds) {
  std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  iovec part{text.data(), text.size()};
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
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    Error error = system_error(errno, "cannot send to a process of this step", "sendmsg");
    error.code = ErrorCode::internal;
    throw error;
  }
}

std::optional<Message> receive_message(int socket) {
  ssize_t size = 0;
  while ((size = recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC)) < 0 && errno == EINTR) continue;
  if (size > static_cast<ssize_t>(kMaxMessage))
    throw Error(ErrorCode::internal, "cannot receive from a process of this step", "the message is too long");
  std::string text(static_cast<std::size_t>(size > 0 ? size : 1), '\0');
  iovec part{text.data(), text.size()};
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
    Error error = system_error(errno, "cannot receive from a process of this step", "recvmsg");
    error.code = ErrorCode::internal;
    throw error;
  }
  if (received == 0) return std::nullopt;
  Message message;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    throw Error(ErrorCode::internal, "cannot receive from a process of this step", "the message is too long");
  text.resize(static_cast<std::size_t>(received));
  message.body = json::parse(text, nullptr, false);
  if (message.body.is_discarded())
    throw Error(ErrorCode::internal, "cannot receive from a process of this step", "the message is not JSON");
  return message;
}

std::pair<UniqueFd, UniqueFd> make_socket_pair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw system_error(errno, "cannot make a socket pair", "socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

json to_json_value(const StepRecord& record) {
  return {{"job", record.job},       {"step", record.step},
          {"uid", record.uid},       {"gid", record.gid},
          {"groups", record.groups}, {"slurm_conf", record.slurm_conf},
          {"node", record.node},     {"runtime_directories", record.runtime_directories},
          {"ranks", record.ranks},   {"request", request_to_json(record.request)}};
}

StepRecord parse_step_record(const json& object) {
  const Reader reader(object, "step");
  StepRecord record;
  record.job = reader.get<std::uint32_t>("job");
  record.step = reader.get<std::uint32_t>("step");
  record.uid = reader.get<std::uint32_t>("uid");
  record.gid = reader.get<std::uint32_t>("gid");
  record.groups = reader.get<std::vector<std::uint32_t>>("groups");
  record.slurm_conf = reader.get<std::string>("slurm_conf");
  record.node = reader.get<std::string>("node");
  record.runtime_directories = reader.get<std::vector<std::string>>("runtime_directories");
  record.ranks = reader.get<std::vector<unsigned>>("ranks");
  record.request = parse_request(reader.get<json>("request"));
  return record;
}

json to_json_value(const RankRecord& record) {
  return {{"local_rank", record.local_rank}, {"pid", record.pid}, {"cpus", to_string(record.cpus)}};
}

RankRecord parse_rank_record(const json& object) {
  const Reader reader(object, "rank");
  return {reader.get<unsigned>("local_rank"), reader.get<int>("pid"), reader.cpus("cpus")};
}

json to_json_value(const Grant& grant) {
  return {{"has_netns", grant.has_netns},
          {"has_rootfs", grant.has_rootfs},
          {"has_relay", grant.has_relay},
          {"verbose", grant.verbose},
          {"device", grant.device},
          {"summary", grant.summary},
          {"pin_cpus", to_string(grant.pin_cpus)},
          {"pin_memory", to_string(grant.pin_memory)},
          {"working_directory", grant.working_directory},
          {"working_directory_required", grant.working_directory_required},
          {"memlock", grant.memlock ? json(*grant.memlock) : json()},
          {"environment",
           {environment_to_json(grant.environment.defaults), environment_to_json(grant.environment.facts),
            environment_to_json(grant.environment.site), environment_to_json(grant.environment.user)}}};
}

Grant parse_grant(const json& object) {
  const Reader reader(object, "grant");
  Grant grant;
  grant.has_netns = reader.get<bool>("has_netns");
  grant.has_rootfs = reader.get<bool>("has_rootfs");
  grant.has_relay = reader.get<bool>("has_relay");
  grant.verbose = reader.get<bool>("verbose");
  grant.device = reader.get<std::string>("device");
  grant.summary = reader.get<std::string>("summary");
  grant.pin_cpus = reader.cpus("pin_cpus");
  grant.pin_memory = reader.cpus("pin_memory");
  grant.working_directory = reader.get<std::string>("working_directory");
  grant.working_directory_required = reader.get<bool>("working_directory_required");
  if (const json memlock = reader.get<json>("memlock"); !memlock.is_null())
    grant.memlock = memlock.get<std::uint64_t>();
  const json environment = reader.get<json>("environment");
  grant.environment = {.defaults = parse_environment(environment.at(0)),
                       .facts = parse_environment(environment.at(1)),
                       .site = parse_environment(environment.at(2)),
                       .user = parse_environment(environment.at(3))};
  return grant;
}

json to_json_value(const Error& error) {
  return {
      {"error",
       {{"code", static_cast<int>(error.code)}, {"what", error.what_text}, {"why", error.why}, {"fix", error.fix}}}};
}

Error parse_error(const json& object) {
  const json inner = Reader(object, "error").get<json>("error");
  const Reader reader(inner, "error");
  return {static_cast<ErrorCode>(reader.get<int>("code")), reader.get<std::string>("what"),
          reader.get<std::string>("why"), reader.get<std::string>("fix")};
}

}  // namespace berth
