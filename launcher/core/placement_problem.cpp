#include "launcher/core/placement_problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/core/json_reader.hpp"
#include "launcher/core/plan_json.hpp"

namespace berth {
namespace {

using nlohmann::json;

constexpr std::size_t kLargestFile = std::size_t{16} << 20U;  // bytes
constexpr std::uint64_t kMostRanks = 65536;
constexpr std::uint64_t kMostDevices = 65536;
constexpr std::uint64_t kMostCapacity = 65536;
constexpr std::uint64_t kLargestSpeed = 1'000'000'000'000;

std::string what_of(const std::string& source) { return fmt::format("cannot use the problem '{}'", source); }

struct Speed {
  std::uint64_t numerator = 1;
  std::uint64_t denominator = 1;
};

/// "100", "2.5" or "1/3", positive.
std::optional<Speed> parse_speed(std::string_view text) {
  Speed speed;
  const auto digits = [](std::string_view part, std::uint64_t& number) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    return error == std::errc() && end == part.data() + part.size() && number <= kLargestSpeed;
  };
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    if (!digits(text.substr(0, slash), speed.numerator) || !digits(text.substr(slash + 1), speed.denominator))
      return {};
  } else {
    const std::size_t dot = std::min(text.find('.'), text.size());
    const std::string_view fraction = dot < text.size() ? text.substr(dot + 1) : std::string_view();
    if (fraction.size() > 6 || !digits(text.substr(0, dot), speed.numerator)) return {};
    std::uint64_t rest = 0;
    if (!fraction.empty() && !digits(fraction, rest)) return {};
    for (std::size_t i = 0; i < fraction.size(); ++i) speed.denominator *= 10;
    speed.numerator = speed.numerator * speed.denominator + rest;
  }
  if (speed.numerator == 0 || speed.denominator == 0) return {};
  const std::uint64_t common = std::gcd(speed.numerator, speed.denominator);
  return Speed{speed.numerator / common, speed.denominator / common};
}

/// Of all devices in one unit.
std::vector<std::uint64_t> whole_speeds(const std::vector<Speed>& speeds, const JsonReader& devices) {
  std::uint64_t unit = 1;
  std::vector<std::uint64_t> whole;
  for (const Speed& speed : speeds) {
    unit = std::lcm(unit, speed.denominator);
    if (unit > kLargestSpeed) devices.complain("have speeds without a common measure");
  }
  for (const Speed& speed : speeds) {
    const std::uint64_t factor = unit / speed.denominator;
    if (speed.numerator > std::numeric_limits<std::uint64_t>::max() / factor)
      devices.complain("have speeds without a common measure");
    whole.push_back(speed.numerator * factor);
  }
  return whole;
}

/// "0-3,8", or hwloc's "0x0000000f" with commas between words.
CpuSet parse_mask(const JsonReader& value) {
  std::string_view text = value.text();
  if (!text.starts_with("0x") && !text.starts_with("0X")) return value.cpus();
  CpuSet cpus;
  unsigned base = 0;
  for (;;) {  // words from the last, which is the lowest
    const std::size_t comma = text.rfind(',');
    std::string_view word = comma == std::string_view::npos ? text : text.substr(comma + 1);
    if (word.starts_with("0x") || word.starts_with("0X")) word.remove_prefix(2);
    for (std::size_t digit = 0; digit < word.size(); ++digit) {
      unsigned bits = 0;
      const char* last = word.data() + word.size() - digit;
      const auto [end, error] = std::from_chars(last - 1, last, bits, 16);
      if (error != std::errc() || end != last || base + 4 * digit + 3 > kMaxCpu) value.refuse("a set of CPUs");
      for (unsigned bit = 0; bit < 4; ++bit)
        if ((bits >> bit & 1U) != 0) cpus.add(base + 4 * static_cast<unsigned>(digit) + bit);
    }
    if (comma == std::string_view::npos) return cpus;
    text = text.substr(0, comma);
    base += 32;
  }
}

/// The functions by address; of several with one address the last.
std::map<std::string_view, const PciFunction*> by_address(const HwlocMachine& machine) {
  std::map<std::string_view, const PciFunction*> functions;
  for (const PciFunction& function : machine.functions) functions[function.address] = &function;
  return functions;
}

std::map<std::string_view, NetworkFunction> networks_by_address(const HwlocMachine& machine) {
  std::map<std::string_view, NetworkFunction> networks;
  for (NetworkFunction& network : find_network_functions(machine, NetworkKind::pci, true))
    networks[machine.functions[network.function].address] = std::move(network);
  return networks;
}

/// Empty if the place is unknown: the whole of a machine with several NUMA domains is no place.
CpuSet known_cpus(const HwlocMachine& machine, const CpuSet& cpus) {
  return device_cpus(machine.topology, std::nullopt, cpus);
}

bool has(const json& object, const char* key) { return object.contains(key) && !object[key].is_null(); }

void add_functions(NamedProblem& named, const HwlocMachine& machine, NetworkKind kind, std::size_t vfs,
                   std::size_t capacity) {
  for (const NetworkFunction& network : find_network_functions(machine, kind)) {
    const PciFunction& function = machine.functions[network.function];
    for (std::size_t vf = 0; vf < std::max<std::size_t>(vfs, 1); ++vf) {
      named.problem.devices.push_back(
          {network.port, network.card, known_cpus(machine, function.local_cpus), 1, capacity, function.location});
      named.devices.push_back(vfs == 0 ? function.address : fmt::format("{}/vf{}", function.address, vf));
    }
  }
}

class ProblemReader {
 public:
  ProblemReader(const json& document, const std::string& source, const HwlocMachine& machine)
      : document_(document),
        reader_(document, source, what_of(source)),
        machine_(machine),
        functions_(by_address(machine)) {}

  NamedProblem read() {
    named_.problem.topology = machine_.topology;
    named_.problem.shortage = Shortage::some;
    if (has(document_, "order")) {
      const auto order = parse_placement_order(reader_["order"].text());
      if (!order) reader_["order"].refuse("\"locality\" or \"balance\"");
      named_.problem.order = *order;
    }
    if (has(document_, "devices")) {
      read_devices();
    } else {
      find_devices();
    }
    read_ranks();
    return std::move(named_);
  }

 private:
  void read_devices() {
    const auto networks = networks_by_address(machine_);
    std::vector<Speed> speeds;
    std::map<std::string, std::string> card_of_port;
    std::map<std::string, std::size_t> ids;
    const std::vector<JsonReader> items = reader_["devices"].items();
    if (items.size() > kMostDevices) reader_["devices"].complain(fmt::format("are more than {}", kMostDevices));
    std::size_t number = 0;
    for (const JsonReader& item : items) {
      const std::string& pci = item["pci"].text();
      const auto function = functions_.find(pci);
      if (function == functions_.end()) item["pci"].refuse("the address of a PCI function of the machine");
      const json& raw = document_["devices"][number];
      PlacementDevice device;
      const auto network = networks.find(pci);
      const bool is_network = network != networks.end();
      device.port = has(raw, "port") ? item["port"].text() : is_network ? network->second.port : pci;
      device.card = has(raw, "card") ? item["card"].text()
                    : is_network     ? network->second.card
                                     : pci.substr(0, pci.size() - 2);
      const auto [card, is_new] = card_of_port.emplace(device.port, device.card);
      if (card->second != device.card)
        item.complain(fmt::format("has port '{}' on card '{}', another device has it on '{}'", device.port, device.card,
                                  card->second));
      if (has(raw, "cap")) device.capacity = item["cap"].number(kMostCapacity);
      Speed speed;
      if (has(raw, "speed")) {
        const auto parsed = parse_speed(raw["speed"].is_string() ? item["speed"].text() : raw["speed"].dump());
        if (!parsed) item["speed"].refuse("a speed such as 100, \"2.5\" or \"1/3\"");
        speed = *parsed;
      }
      speeds.push_back(speed);
      device.location = function->second->location;
      device.local_cpus = known_cpus(machine_, is_network ? function->second->local_cpus : device.location.local_cpus);
      named_.devices.push_back(has(raw, "id") ? item["id"].text() : pci);
      if (!ids.emplace(named_.devices.back(), number++).second) item.complain("has the id of another device");
      named_.problem.devices.push_back(std::move(device));
    }
    const std::vector<std::uint64_t> whole = whole_speeds(speeds, reader_["devices"]);
    for (std::size_t device = 0; device < whole.size(); ++device) named_.problem.devices[device].speed = whole[device];
  }

  void find_devices() {
    const auto kind = has(document_, "kind") ? parse_network_kind(reader_["kind"].text()) : NetworkKind::automatic;
    if (!kind) reader_["kind"].refuse("one of auto, ofa, net, any, vf and pci");
    const std::size_t vfs = has(document_, "vfs") ? reader_["vfs"].number(kMostVfs) : 0;
    add_functions(named_, machine_, *kind, vfs, has(document_, "cap") ? reader_["cap"].number(kMostCapacity) : 1);
  }

  void read_ranks() {
    const std::vector<JsonReader> items = reader_["ranks"].items();
    if (items.size() > kMostRanks) reader_["ranks"].complain(fmt::format("are more than {}", kMostRanks));
    for (const JsonReader& item : items) {
      PlacementRank rank;
      rank.allowed_cpus = parse_mask(item["cpuset"]) & machine_.topology.cpus;
      if (rank.allowed_cpus.empty()) item["cpuset"].complain("has no CPU of the machine");
      if (has(document_["ranks"][named_.problem.ranks.size()], "gpu")) {
        const auto gpu = functions_.find(item["gpu"].text());
        if (gpu == functions_.end()) item["gpu"].refuse("the address of a PCI function of the machine");
        rank.gpu = gpu->second->location;
      }
      named_.problem.ranks.push_back(std::move(rank));
    }
  }

  static constexpr std::uint64_t kMostVfs = 4096;

  const json& document_;
  JsonReader reader_;
  const HwlocMachine& machine_;
  std::map<std::string_view, const PciFunction*> functions_;
  NamedProblem named_;
};

}  // namespace

json parse_problem_file(std::string_view text, const std::string& source) {
  json document = parse_json_file(text, source, what_of(source), kLargestFile);
  if (document.is_object() && document.contains("problem")) {
    json inner = std::move(document["problem"]);
    return inner;
  }
  return document;
}

std::string problem_topology(const json& document, const std::string& source) {
  return JsonReader(document, source, what_of(source))["topology"].text();
}

NamedProblem parse_problem(const json& document, const std::string& source, const HwlocMachine& machine) {
  return ProblemReader(document, source, machine).read();
}

NamedProblem make_problem(const HwlocMachine& machine, NetworkKind kind, std::size_t vfs, std::size_t ranks) {
  NamedProblem named;
  named.problem.topology = machine.topology;
  add_functions(named, machine, kind, vfs, 1);
  const CpuSet& cpus = machine.topology.allowed.empty() ? machine.topology.cpus : machine.topology.allowed;
  named.problem.ranks.assign(ranks, {cpus, {}});
  return named;
}

json to_json_value(const NamedProblem& named, const Placement& placement) {
  json assignment = json::array();
  json cpusets = json::array();
  json ranks = json::array();
  for (const PlacementChoice& choice : placement.choices) {
    json devices = json::array();
    for (const std::size_t device : choice.devices) devices.push_back(named.devices[device]);
    assignment.push_back(devices.empty() ? json(nullptr) : devices.front());
    cpusets.push_back(to_string(choice.cpus));
    ranks.push_back({{"rank", ranks.size()},
                     {"devices", std::move(devices)},
                     {"cpus", to_string(choice.cpus)},
                     {"nearness", choice.devices.empty() ? json(nullptr) : json(to_string(choice.nearness))},
                     {"gpu_path", choice.gpu_path ? json(to_string(*choice.gpu_path)) : json(nullptr)},
                     {"reason", choice.reason}});
  }
  json objective = json::object();
  for (const PlacementLevel& level : placement.objective) objective[std::string(level.name)] = level.value;
  return {
      {"version", kJsonVersion},       {"order", to_string(named.problem.order)}, {"assignment", std::move(assignment)},
      {"cpusets", std::move(cpusets)}, {"objective", std::move(objective)},       {"ranks", std::move(ranks)}};
}

}  // namespace berth
