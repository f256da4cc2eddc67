#include "launcher/core/hwloc_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "launcher/core/error.hpp"
#include "launcher/core/text_position.hpp"
#include "launcher/core/xml_text.hpp"

namespace berth {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);
constexpr std::size_t kMostDistances = 1024;  // NUMA nodes; Linux knows as many
constexpr std::uint64_t kNewestVersion = 3;
constexpr std::string_view kMellanox = "15b3";

struct Object {
  const XmlElement* element = nullptr;
  std::string_view type;
  std::size_t parent = kNone;
  std::optional<CpuSet> cpus;  ///< I/O has none of its own
  std::vector<std::pair<std::string_view, std::string_view>> infos;
  std::vector<std::size_t> os_devices;  ///< children that are
};

/// gpu: or another co-processor.
enum class OsDeviceKind { other, gpu, network, fabric };

bool is_all_zero(std::string_view guid) { return guid.find_first_not_of("0:") == std::string_view::npos; }

class Reader {
 public:
  Reader(std::string_view text, const std::string& source)
      : text_(text),
        source_(source),
        what_(fmt::format("cannot read the topology in '{}'", source)),
        elements_(parse_xml(text, source, what_)) {}

  HwlocMachine read() {
    const XmlElement& top = elements_.front();
    if (top.name != "topology") fail(top, fmt::format("<{}> is no topology of hwloc", top.name));
    const std::string_view version = top.attribute("version");  // version 1 wrote none
    const std::string_view major = version.substr(0, version.find('.'));
    version_ = major.empty() ? 1 : number(top, major, UINT64_MAX);
    if (version_ > kNewestVersion) {
      fail(top, fmt::format("hwloc {} wrote it, in a form that Berth does not know", version_),
           "convert it: lstopo -i FILE --export-xml-flags v2 NEW.xml");
    }
    collect_objects();
    if (objects_.empty()) fail(top, "there is no object in it");
    read_cpus();
    read_numa_nodes();
    read_distances();
    one_domain_ = numa_domains(machine_.topology).size() <= 1;
    for (std::size_t object = 0; object < objects_.size(); ++object)
      if (objects_[object].type == "PCIDev") machine_.functions.push_back(read_function(object));
    return std::move(machine_);
  }

 private:
  [[noreturn]] void fail(const XmlElement& element, std::string_view why,
                         std::string fix = "make the file with `lstopo FILE.xml`") const {
    throw Error(ErrorCode::host, what_, fmt::format("{}:{}: {}", source_, position_in(text_, element.begin), why),
                std::move(fix));
  }

  void collect_objects() {
    std::vector<std::size_t> open;  // objects around the element, by depth; kNone: another element
    for (const XmlElement& element : elements_) {
      open.resize(element.depth);
      const auto around = std::find_if(open.rbegin(), open.rend(), [](std::size_t object) { return object != kNone; });
      const std::size_t parent = around == open.rend() ? kNone : *around;
      open.push_back(kNone);
      if (element.name == "info" && parent != kNone && open[element.depth - 1] == parent) {
        objects_[parent].infos.emplace_back(element.attribute("name"), element.attribute("value"));
      }
      if (element.name != "object") continue;
      if (parent == kNone && !objects_.empty()) fail(element, "there is a second machine");
      open.back() = objects_.size();
      Object object{&element, element.attribute("type"), parent, {}, {}, {}};
      if (object.type.empty()) fail(element, "the object has no type");
      if (object.type == "Socket") object.type = "Package";  // its name in version 1
      if (const std::string_view cpus = element.attribute("cpuset"); !cpus.empty()) object.cpus = bitmap(element, cpus);
      if (object.type == "OSDev" && parent != kNone) objects_[parent].os_devices.push_back(objects_.size());
      objects_.push_back(std::move(object));
    }
  }

  /// 32 bits per word, the first one is the highest: "0x0000ffff,,0x1". "0xf...f" stands for endless ones.
  CpuSet bitmap(const XmlElement& element, std::string_view text) const {
    const auto words = static_cast<std::size_t>(std::count(text.begin(), text.end(), ',')) + 1;
    if (words > (kMaxCpu + 1) / 32) fail(element, fmt::format("a set of CPUs goes beyond number {}", kMaxCpu));
    CpuSet cpus;
    for (std::size_t word = words; word-- > 0;) {
      std::string_view digits = text.substr(0, text.find(','));
      text.remove_prefix(std::min(digits.size() + 1, text.size()));
      if (digits == "0xf...f") digits = "0xffffffff";
      if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
      std::uint32_t bits = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
      if (!digits.empty() && (error != std::errc() || end != digits.data() + digits.size()))
        fail(element, "a set of CPUs is not written in hexadecimal words");
      for (unsigned bit = 0; bit < 32; ++bit)
        if ((bits >> bit & 1U) != 0) cpus.add(static_cast<unsigned>(word) * 32 + bit);
    }
    return cpus;
  }

  std::uint64_t number(const XmlElement& element, std::string_view text, std::uint64_t limit) const {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value > limit) {
      fail(element, fmt::format("'{}' is not a number from 0 to {}", escape_for_terminal(text.substr(0, 40)), limit));
    }
    return value;
  }

  std::vector<CpuSet> sets_of(std::string_view type) const {
    std::vector<CpuSet> sets;
    for (const Object& object : objects_)
      if (object.type == type && object.cpus && !object.cpus->empty()) sets.push_back(*object.cpus);
    return sets;
  }

  void read_cpus() {
    const Object& root = objects_.front();
    Topology& topology = machine_.topology;
    if (!root.cpus || root.cpus->empty()) fail(*root.element, "the machine has no CPUs");
    topology.cpus = *root.cpus;
    complete_ = topology.cpus;
    if (const auto cpus = root.element->attribute("complete_cpuset"); !cpus.empty())
      complete_ = bitmap(*root.element, cpus);
    if (const auto cpus = root.element->attribute("allowed_cpuset"); !cpus.empty()) {
      topology.allowed = bitmap(*root.element, cpus) & topology.cpus;
      if (topology.allowed == topology.cpus) topology.allowed = {};
    }
    topology.cores = sets_of("Core");
    if (topology.cores.empty()) topology.cores = sets_of("PU");
    if (topology.cores.empty()) fail(*root.element, "there are no cores in it");
    topology.groups = sets_of("Group");
    for (CpuSet& die : sets_of("Die")) topology.groups.push_back(std::move(die));
    topology.packages = sets_of("Package");
  }

  void read_numa_nodes() {
    std::vector<NumaNode>& nodes = machine_.topology.numa_nodes;
    for (const Object& object : objects_) {
      if (object.type != "NUMANode") continue;
      const std::string_view index = object.element->attribute("os_index");
      const auto os_index = static_cast<unsigned>(index.empty() ? 0 : number(*object.element, index, kMaxCpu));
      const auto place = std::lower_bound(nodes.begin(), nodes.end(), os_index,
                                          [](const NumaNode& node, unsigned wanted) { return node.os_index < wanted; });
      if (place != nodes.end() && place->os_index == os_index)
        fail(*object.element, fmt::format("NUMA node {} is there twice", os_index));
      nodes.insert(place, {os_index, object.cpus.value_or(CpuSet{})});
      if (const auto gp = object.element->attribute("gp_index"); !gp.empty())
        by_gp_index_[number(*object.element, gp, UINT64_MAX)] = os_index;
    }
  }

  void read_numbers(const XmlElement& element, std::vector<std::uint64_t>& numbers) const {
    std::string_view rest = element.text;
    for (;;) {
      rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
      if (rest.empty()) return;
      const std::string_view word = rest.substr(0, rest.find_first_of(" \t\r\n"));
      numbers.push_back(number(element, word, UINT64_MAX));
      if (numbers.size() > kMostDistances * kMostDistances) fail(element, "there are too many distances");
      rest.remove_prefix(word.size());
    }
  }

  /// Of the first latencies between NUMA nodes; version 1 wrote no such element.
  void read_distances() {
    constexpr std::uint64_t kMeansLatency = 4;
    for (std::size_t i = 0; i < elements_.size(); ++i) {
      const XmlElement& element = elements_[i];
      if (element.name != "distances2" || element.attribute("type") != "NUMANode") continue;
      const std::string_view kind = element.attribute("kind");
      if (kind.empty() || (number(element, kind, UINT64_MAX) & kMeansLatency) == 0) continue;
      std::vector<std::uint64_t> indexes;
      std::vector<std::uint64_t> values;
      for (std::size_t part = i + 1; part < elements_.size() && elements_[part].depth > element.depth; ++part) {
        if (elements_[part].name == "indexes") read_numbers(elements_[part], indexes);
        if (elements_[part].name == "u64values") read_numbers(elements_[part], values);
      }
      if (indexes.size() > kMostDistances || values.size() != indexes.size() * indexes.size())
        fail(element, fmt::format("{} distances do not make a square of {}", values.size(), indexes.size()));
      return take_distances(element, indexes, values);
    }
  }

  void take_distances(const XmlElement& element, const std::vector<std::uint64_t>& indexes,
                      const std::vector<std::uint64_t>& values) {
    const std::vector<NumaNode>& nodes = machine_.topology.numa_nodes;
    std::vector<std::size_t> positions;
    for (std::uint64_t index : indexes) {
      if (const auto known = by_gp_index_.find(index);
          element.attribute("indexing") == "gp" && known != by_gp_index_.end())
        index = known->second;
      const auto node =
          std::find_if(nodes.begin(), nodes.end(), [&](const NumaNode& n) { return n.os_index == index; });
      positions.push_back(node == nodes.end() ? kNone : static_cast<std::size_t>(node - nodes.begin()));
    }
    auto& distances = machine_.topology.distances;
    distances.assign(nodes.size(), std::vector<std::uint32_t>(nodes.size(), 0));
    for (std::size_t from = 0; from < positions.size(); ++from) {
      for (std::size_t to = 0; to < positions.size(); ++to) {
        const std::uint64_t value = values[from * positions.size() + to];
        if (value > UINT32_MAX) fail(element, "a distance is out of all proportion");
        if (positions[from] != kNone && positions[to] != kNone)
          distances[positions[from]][positions[to]] = static_cast<std::uint32_t>(value);
      }
    }
  }

  PciFunction read_function(std::size_t number) const {
    const Object& object = objects_[number];
    PciFunction function;
    function.address = object.element->attribute("pci_busid");
    if (!parse_pci_address(function.address)) fail(*object.element, "a PCI function has no valid pci_busid");
    // "0200 [15b3:1017] [15b3:0008] 00"
    const std::string_view type = object.element->attribute("pci_type");
    function.pci_class = type.substr(0, 4);
    if (const std::size_t open = type.find('['); open != std::string_view::npos)
      function.vendor = type.substr(open + 1, 4);
    read_os_devices(object, function);
    read_place(number, function);
    return function;
  }

  /// Versions 1 and 2 write one number, version 3 a sum of bits: there, fabrics are networks as well, and BXI says what
  /// it is by its subtype alone.
  [[nodiscard]] OsDeviceKind os_device_kind(const XmlElement& element) const {
    const std::string_view text = element.attribute("osdev_type");
    const std::uint64_t type = text.empty() ? 0 : number(element, text, UINT32_MAX);
    if (version_ < 3) {
      return type == 1 || type == 5 ? OsDeviceKind::gpu
             : type == 2            ? OsDeviceKind::network
             : type == 3            ? OsDeviceKind::fabric
                                    : OsDeviceKind::other;
    }
    constexpr std::uint64_t kGpus = 4U | 8U;
    constexpr std::uint64_t kNetwork = 16;
    constexpr std::uint64_t kFabric = 32;
    if ((type & kFabric) != 0 || ((type & kNetwork) != 0 && element.attribute("subtype") == "BXI"))
      return OsDeviceKind::fabric;
    return (type & kNetwork) != 0 ? OsDeviceKind::network
           : (type & kGpus) != 0  ? OsDeviceKind::gpu
                                  : OsDeviceKind::other;
  }

  void read_os_devices(const Object& object, PciFunction& function) const {
    function.has_gpu = function.pci_class == "0302" || function.pci_class == "0380" || function.pci_class == "1200";
    for (const std::size_t child : object.os_devices) {
      const Object& device = objects_[child];
      const std::string_view name = device.element->attribute("name");
      const OsDeviceKind kind = os_device_kind(*device.element);
      if (kind == OsDeviceKind::network) function.networks.emplace_back(name);
      if (kind == OsDeviceKind::fabric) function.fabrics.emplace_back(name);
      // A DRM device alone is usually the console of the management controller.
      if (kind == OsDeviceKind::gpu && !name.starts_with("card") && !name.starts_with("controlD"))
        function.has_gpu = true;
      for (const auto& [key, value] : device.infos) {
        if (key == "SysImageGUID" && function.image_guid.empty() && !is_all_zero(value)) function.image_guid = value;
        if (key.starts_with("Port") && key.ends_with("State") && key.size() > 9 &&
            key.substr(4, key.size() - 9).find_first_not_of("0123456789") == std::string_view::npos)
          function.link_up = function.link_up.value_or(false) || value == "4";  // IBV_PORT_ACTIVE
      }
    }
  }

  void read_place(std::size_t number, PciFunction& function) const {
    function.location.function = fmt::format("object {}", number);
    std::size_t at = objects_[number].parent;
    for (; at != kNone && !objects_[at].cpus; at = objects_[at].parent) {
      if (objects_[at].type != "Bridge") continue;
      const std::string name = fmt::format("object {}", at);
      // "UPSTREAM-DOWNSTREAM": 0 is the host, 1 is PCI
      if (objects_[at].element->attribute("bridge_type").starts_with('1')) {
        function.location.bridges.push_back(name);
      } else {
        function.location.host_bridge = name;
      }
    }
    if (at == kNone) fail(*objects_[number].element, "a PCI function is outside the machine");
    function.location.local_cpus = *objects_[at].cpus;
    // I/O that hangs on memory without CPUs is as near as what the memory hangs on.
    while (objects_[at].parent != kNone && (!objects_[at].cpus || !objects_[at].cpus->intersects(complete_)))
      at = objects_[at].parent;
    function.local_cpus = objects_[at].cpus.value_or(CpuSet{});
  }

  std::string_view text_;
  const std::string& source_;
  std::string what_;
  std::vector<XmlElement> elements_;
  std::uint64_t version_ = 1;  ///< of the format
  std::vector<Object> objects_;
  std::map<std::uint64_t, unsigned> by_gp_index_;  ///< os_index of NUMA nodes
  CpuSet complete_;                                ///< with CPUs that are offline or hidden
  bool one_domain_ = false;
  HwlocMachine machine_;
};

struct Found {
  NetworkFunction network;
  PciAddress address;
  NetworkKind kind = NetworkKind::pci;
  bool up = true;
};

/// "dddd:bb" of "dddd:bb:dd.f".
std::pair<std::uint32_t, std::uint8_t> bus_of(const PciAddress& address) { return {address.domain, address.bus}; }

std::vector<Found> find_all(const HwlocMachine& machine) {
  std::vector<Found> found;
  std::map<std::pair<std::uint32_t, std::uint8_t>, std::size_t> first_on_bus;  // function with an OS device
  for (std::size_t number = 0; number < machine.functions.size(); ++number) {
    const PciFunction& function = machine.functions[number];
    const bool has_device = !function.networks.empty() || !function.fabrics.empty();
    if (!has_device && !function.pci_class.starts_with("02") && function.pci_class != "0c06") continue;
    found.push_back({{number, {}, {}}, *parse_pci_address(function.address), NetworkKind::pci, true});
    if (has_device) first_on_bus.emplace(bus_of(found.back().address), number);
  }
  for (Found& one : found) {
    const PciFunction& function = machine.functions[one.network.function];
    const auto neighbour = first_on_bus.find(bus_of(one.address));
    const PciFunction* physical = &function;
    if (!function.fabrics.empty() || !function.networks.empty()) {
      one.kind = function.fabrics.empty() ? NetworkKind::network : NetworkKind::fabric;
    } else if (neighbour != first_on_bus.end()) {
      one.kind = NetworkKind::bare_vf;
      physical = &machine.functions[neighbour->second];
    }
    const std::size_t dot = physical->address.rfind('.');
    one.network.card = physical->vendor == kMellanox && !physical->image_guid.empty()
                           ? physical->image_guid
                           : physical->address.substr(0, dot);
    one.network.port = one.network.card + "#" + physical->address.substr(dot + 1);
    one.up = physical->link_up.value_or(true);
  }
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.address < b.address; });
  return found;
}

}  // namespace

HwlocMachine parse_hwloc_xml(std::string_view text, const std::string& source) { return Reader(text, source).read(); }

std::optional<NetworkKind> parse_network_kind(std::string_view text) {
  static const std::map<std::string_view, NetworkKind> kKinds{
      {"ofa", NetworkKind::fabric}, {"net", NetworkKind::network}, {"any", NetworkKind::any},
      {"vf", NetworkKind::bare_vf}, {"pci", NetworkKind::pci},     {"auto", NetworkKind::automatic}};
  const auto kind = kKinds.find(text);
  return kind == kKinds.end() ? std::nullopt : std::optional(kind->second);
}

std::vector<NetworkFunction> find_network_functions(const HwlocMachine& machine, NetworkKind kind, bool with_down) {
  const std::vector<Found> all = find_all(machine);
  if (kind == NetworkKind::automatic) {
    const bool has_fabric =
        std::any_of(all.begin(), all.end(), [](const Found& one) { return one.kind == NetworkKind::fabric; });
    kind = has_fabric ? NetworkKind::fabric : NetworkKind::network;
  }
  std::vector<NetworkFunction> functions;
  for (const Found& one : all) {
    const bool has_device = one.kind == NetworkKind::fabric || one.kind == NetworkKind::network;
    const bool wanted = one.kind == kind || kind == NetworkKind::pci || (kind == NetworkKind::any && has_device);
    if (wanted && (one.up || with_down)) functions.push_back(one.network);
  }
  return functions;
}

}  // namespace berth
