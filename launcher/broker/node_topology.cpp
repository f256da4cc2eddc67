#include "launcher/broker/node_topology.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/broker/protocol.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/system/topology.hpp"

namespace berth {

using nlohmann::json;

namespace {

std::string read_key() {
  return read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id") + read_file(AT_FDCWD, "/sys/devices/system/cpu/online");
}

std::optional<Topology> read_kept(const std::string& path, const std::string& key) {
  try {
    const json kept = json::parse(read_file(AT_FDCWD, path));
    if (kept.at("key").get<std::string>() == key) return parse_topology(kept.at("topology"));
  } catch (const std::exception&) {  // absent, of another version, or cut short: discover again
  }
  return std::nullopt;
}

json discover_in_child() {
  auto [mine, its] = make_socket_pair();
  const pid_t pid = fork();
  if (pid < 0) throw system_error(errno, "cannot read the node's topology", "fork");
  if (pid == 0) {
    try {
      send_message(its.get(), to_json_value(read_topology()));
      _exit(0);
    } catch (const Error& error) {
      send_message(its.get(), to_json_value(error));
    } catch (...) {
      _exit(1);
    }
    _exit(1);
  }
  its.reset();
  auto answer = receive_message(mine.get());
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  if (!answer) throw Error(ErrorCode::host, "cannot read the node's topology", "hwloc ended without an answer");
  if (answer->body.contains("error")) throw parse_error(answer->body);
  return std::move(answer->body);
}

}  // namespace

Topology read_node_topology(const Journal& journal) {
  const std::string path = journal.state_directory() + "/topology.json";
  const std::string key = read_key();
  if (auto kept = read_kept(path, key)) return *kept;
  json topology = discover_in_child();
  Topology result = parse_topology(topology);
  if (journal.can_write())
    write_file_atomically(path, json{{"key", key}, {"topology", std::move(topology)}}.dump(), 0644);
  return result;
}

}  // namespace berth
