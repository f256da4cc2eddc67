#include "hooks/container_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "launcher/core/json_reader.hpp"
#include "launcher/core/request.hpp"

namespace berth {

namespace {

constexpr const char* kWhat = "cannot understand the container's runtime";
constexpr std::string_view kPrefix = "berth.";
constexpr unsigned kHighestPid = 1U << 22U;  // the kernel's own limit

Error bad_annotation(const std::string& name, const std::string& value, std::string why, std::string fix = {}) {
  return {ErrorCode::usage, fmt::format("cannot use annotation {}={}", name, value), std::move(why), std::move(fix)};
}

bool is_device(std::string_view text) {
  return !text.empty() && text.size() <= 200 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c != 0x7f; });
}

void apply_annotation(ContainerRequest& request, const std::string& name, const std::string& value) {
  if (name == "berth.pool") {
    if (!is_pool_name(value))
      throw bad_annotation(name, value, "this is not the form of a pool's name",
                           "`berth policy check` lists the pools");
    request.pool = value;
  } else if (name == "berth.device") {
    if (!is_device(value))
      throw bad_annotation(name, value, "this is neither a PCI address nor the id of a device",
                           "`berth devices -v` lists the devices");
    request.device = value;
  } else if (name == "berth.interface") {
    if (!is_interface_name(value) || value == "lo")
      throw bad_annotation(name, value, "a network interface cannot have this name", "use a name such as eth1");
    request.interface = value;
  } else {
    const auto nearest = nearest_word(name, {"berth.pool", "berth.device", "berth.interface"});
    throw bad_annotation(name, value, "Berth knows no such annotation",
                         nearest ? fmt::format("did you mean '{}'?", *nearest)
                                 : "there are berth.pool, berth.device and berth.interface");
  }
}

/// Ids become parts of messages and of names of control groups. Runtimes take these characters.
bool is_container_id(std::string_view id) {
  return !id.empty() && id.size() <= 200 && id.front() != '.' && std::all_of(id.begin(), id.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' || c == '+';
  });
}

/// -1 stands for all, as the key's absence does.
std::optional<unsigned> parse_number(const JsonReader& rule, const std::string& key) {
  const auto number = rule.find(key);
  if (!number || number->is_minus_one()) return std::nullopt;
  return number->small_number();
}

}  // namespace

std::optional<ContainerState> parse_container_state(std::string_view text, std::size_t limit) {
  const std::string source = "the container's state";
  const nlohmann::json document = parse_json_file(text, source, kWhat, limit);
  const JsonReader reader(document, source, kWhat);
  const auto annotations = reader.find("annotations");
  if (!annotations || annotations->is_null()) return std::nullopt;
  ContainerState state;
  bool is_asked = false;
  for (const std::string& name : annotations->keys()) {
    if (!name.starts_with(kPrefix)) continue;
    apply_annotation(state.request, name, (*annotations)[name].text());
    is_asked = true;
  }
  if (!is_asked) return std::nullopt;
  if (state.request.pool.empty() && state.request.device.empty())
    throw bad_annotation("berth.interface", state.request.interface,
                         "it names the interface of a device, but asks for none", "add berth.pool=NAME");
  state.id = reader["id"].text();
  if (!is_container_id(state.id)) reader["id"].refuse("the id of a container");
  state.bundle = reader["bundle"].text();
  if (!parse_absolute_path(state.bundle)) reader["bundle"].refuse("an absolute path");
  if (const auto pid = reader.find("pid")) state.pid = static_cast<int>(pid->small_number(kHighestPid));
  return state;
}

ContainerConfig parse_container_config(std::string_view text, std::size_t limit) {
  const std::string source = "config.json";
  const nlohmann::json document = parse_json_file(text, source, kWhat, limit);
  const JsonReader reader(document, source, kWhat);
  ContainerConfig config;
  config.root = reader["root"]["path"].text();
  const auto linux_part = reader.find("linux");
  const auto resources = linux_part ? linux_part->find("resources") : std::nullopt;
  const auto devices = resources ? resources->find("devices") : std::nullopt;
  if (!devices) return config;
  for (const JsonReader& item : devices->items()) {
    ContainerDeviceRule rule{item["allow"].flag(), 'a', parse_number(item, "major"), parse_number(item, "minor"),
                             "rwm"};
    if (const auto type = item.find("type")) {
      const std::string& name = type->text();
      if (!name.empty()) rule.type = name == "u" ? 'c' : name.front();
    }
    if (const auto access = item.find("access")) rule.access = access->text();
    config.devices.push_back(rule);
  }
  return config;
}

std::vector<RdmaNode> find_denied(const std::vector<ContainerDeviceRule>& rules, const std::vector<RdmaNode>& nodes) {
  const auto is_allowed = [&](const RdmaNode& node, char access) {
    bool allowed = false;
    for (const ContainerDeviceRule& rule : rules)
      if (rule.type != 'b' && rule.major.value_or(node.major) == node.major &&
          rule.minor.value_or(node.minor) == node.minor && rule.access.find(access) != std::string::npos)
        allowed = rule.allow;
    return allowed;
  };
  std::vector<RdmaNode> denied;
  for (const RdmaNode& node : nodes)
    if (!is_allowed(node, 'r') || !is_allowed(node, 'w')) denied.push_back(node);
  return denied;
}

}  // namespace berth
