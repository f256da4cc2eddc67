#include "launcher/broker/node_topology.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/core/error_json.hpp"
#include "launcher/core/plan_json.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/program.hpp"

namespace berth {

using nlohmann::json;

namespace {

constexpr std::chrono::seconds kPatience{60};

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

json discover() {
  const std::string program = find_program("berth-topology");
  const auto text = read_program_output({program}, {}, kPatience);
  json answer = text ? json::parse(*text, nullptr, false) : json();
  if (!answer.is_object())
    throw Error(ErrorCode::host, "cannot read the node's topology",
                fmt::format("{} failed or did not answer in {} s", program, kPatience.count()),
                "run it by hand on the node; it is installed with all other parts of Berth");
  if (answer.contains("error")) throw parse_error(answer);
  return answer;
}

}  // namespace

Topology read_node_topology(const Journal& journal) {
  const std::string path = journal.state_directory() + "/topology.json";
  const std::string key = read_key();
  if (auto kept = read_kept(path, key)) return *kept;
  json topology = discover();
  Topology result = parse_topology(topology);
  if (journal.can_write())
    write_file_atomically(path, json{{"key", key}, {"topology", std::move(topology)}}.dump(), 0644);
  return result;
}

}  // namespace berth
