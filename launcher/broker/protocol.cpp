#include "launcher/broker/protocol.hpp"

#include <fmt/format.h>

namespace berth {

using nlohmann::json;

namespace {

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

json rdma_to_json(const std::vector<RdmaGrant>& grants) {
  json list = json::array();
  for (const RdmaGrant& grant : grants) list.push_back(to_json_value(grant));
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
          {"devices", request.devices},
          {"gpus", request.gpus},
          {"share", request.share},
          {"wait_seconds", request.wait_seconds},
          {"onload", request.onload ? json(*request.onload) : json()},
          {"verbose", request.verbose},
          {"stats", request.stats ? json(*request.stats) : json()}};
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
  request.devices = reader.get<unsigned>("devices");
  request.gpus = reader.get<std::vector<std::string>>("gpus");
  request.share = reader.get<bool>("share");
  request.wait_seconds = reader.get<unsigned>("wait_seconds");
  if (const json onload = reader.get<json>("onload"); !onload.is_null())
    request.onload = reader.get<std::vector<std::string>>("onload");
  request.verbose = reader.get<bool>("verbose");
  if (const json stats = reader.get<json>("stats"); !stats.is_null()) request.stats = stats.get<std::string>();
  return request;
}

}  // namespace

void send_message(int socket, const json& body, const std::vector<int>& fds) {
  send_record(socket, body.dump(-1, ' ', false, json::error_handler_t::replace), fds);
}

std::optional<Message> receive_message(int socket) {
  auto record = receive_record(socket);
  if (!record) return std::nullopt;
  Message message{json::parse(record->text, nullptr, false), std::move(record->fds)};
  if (message.body.is_discarded())
    throw Error(ErrorCode::internal, "cannot receive from a process of this step", "the message is not JSON");
  return message;
}

json to_json_value(const StepRecord& record) {
  return {{"job", record.job},
          {"step", record.step},
          {"launcher_pid", record.launcher_pid},
          {"uid", record.uid},
          {"gid", record.gid},
          {"groups", record.groups},
          {"slurm_conf", record.slurm_conf},
          {"node", record.node},
          {"runtime_directories", record.runtime_directories},
          {"session_directories", record.session_directories},
          {"ranks", record.ranks},
          {"awaited_ranks", record.awaited_ranks},
          {"request", request_to_json(record.request)}};
}

StepRecord parse_step_record(const json& object) {
  const Reader reader(object, "step");
  StepRecord record;
  record.job = reader.get<std::uint32_t>("job");
  record.step = reader.get<std::uint32_t>("step");
  record.launcher_pid = reader.get<int>("launcher_pid");
  record.uid = reader.get<std::uint32_t>("uid");
  record.gid = reader.get<std::uint32_t>("gid");
  record.groups = reader.get<std::vector<std::uint32_t>>("groups");
  record.slurm_conf = reader.get<std::string>("slurm_conf");
  record.node = reader.get<std::string>("node");
  record.runtime_directories = reader.get<std::vector<std::string>>("runtime_directories");
  record.session_directories = reader.get<std::vector<std::string>>("session_directories");
  record.ranks = reader.get<std::vector<unsigned>>("ranks");
  record.awaited_ranks = reader.get<unsigned>("awaited_ranks");
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
          {"shares_rootfs", grant.shares_rootfs},
          {"verbose", grant.verbose},
          {"device", grant.device},
          {"summary", grant.summary},
          {"pin_cpus", to_string(grant.pin_cpus)},
          {"pin_memory", to_string(grant.pin_memory)},
          {"working_directory", grant.working_directory},
          {"working_directory_required", grant.working_directory_required},
          {"memlock", grant.memlock ? json(*grant.memlock) : json()},
          {"rdma", rdma_to_json(grant.rdma)},
          {"tested_devices", grant.tested_devices},
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
  grant.shares_rootfs = reader.get<bool>("shares_rootfs");
  grant.verbose = reader.get<bool>("verbose");
  grant.device = reader.get<std::string>("device");
  grant.summary = reader.get<std::string>("summary");
  grant.pin_cpus = reader.cpus("pin_cpus");
  grant.pin_memory = reader.cpus("pin_memory");
  grant.working_directory = reader.get<std::string>("working_directory");
  grant.working_directory_required = reader.get<bool>("working_directory_required");
  if (const json memlock = reader.get<json>("memlock"); !memlock.is_null())
    grant.memlock = memlock.get<std::uint64_t>();
  for (const json& rdma : reader.get<json>("rdma")) grant.rdma.push_back(parse_rdma_grant(rdma));
  grant.tested_devices = reader.get<std::vector<std::string>>("tested_devices");
  const json environment = reader.get<json>("environment");
  grant.environment = {.defaults = parse_environment(environment.at(0)),
                       .facts = parse_environment(environment.at(1)),
                       .site = parse_environment(environment.at(2)),
                       .user = parse_environment(environment.at(3))};
  return grant;
}

}  // namespace berth
