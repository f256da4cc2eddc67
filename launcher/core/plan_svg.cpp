#include "launcher/core/plan_svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "launcher/core/error.hpp"

namespace berth {
namespace {

constexpr int kCharacterWidth = 7;  ///< pixels of the widest monospace font at the size of the style sheet, rounded up

/// Names come from outside: no control characters, and nothing that XML would take for its own.
std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : escape_for_terminal(text)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

/// As many characters as fit into `width` pixels, the last of them "…" if that is not all.
std::string fit(std::string_view text, int width) {
  const std::size_t room = static_cast<std::size_t>(std::max(width / kCharacterWidth, 1));
  const std::string safe = escape_for_terminal(text);
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80; };
  if (static_cast<std::size_t>(std::count_if(safe.begin(), safe.end(), starts_character)) <= room) return safe;
  std::size_t end = 0;
  for (std::size_t characters = 0; end < safe.size(); ++end) {
    if (!starts_character(safe[end])) continue;
    if (++characters == room) break;
  }
  return safe.substr(0, end) + "…";
}

constexpr std::string_view kStyle = R"(
  text { font: 11px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #111 }
  .heading { font-weight: bold; font-size: 15px }
  .small { fill: #444 }
  .page { fill: #fff }
  .machine { fill: #f7f7f7; stroke: #555 }
  .package { fill: #ececec; stroke: #777 }
  .numa { fill: #fdfdfd; stroke: #777 }
  .core { fill: none; stroke: #333; stroke-width: 1.4 }
  .cpu { fill: #fff; stroke: #bbb; stroke-width: 0.7 }
  .cpu-number { fill: #555 }
  .owner { font-weight: bold }
  .pci-root { fill: #fafafa; stroke: #999 }
  .pci-bridge { fill: #f4f4f4; stroke: #999; stroke-dasharray: 3 2 }
  .gpu { fill: #e4e4e4; stroke: #444; stroke-width: 2 }
  .nic { fill: #f1f1f1; stroke: #444 }
  .taken { fill: #fff; stroke: #111; stroke-width: 1.6 }
  .free { fill: #fff; stroke: #666 }
  .held { fill: url(#hatched); stroke: #333 }
  .unusable { fill: url(#crossed); stroke: #333 }
  .other { fill: #ddd; stroke: #aaa }
  .cell-text { font-size: 9px; text-anchor: middle }
  .held-text, .unusable-text { font-weight: bold; paint-order: stroke; stroke: #fff; stroke-width: 3px }
  .line { fill: none; stroke-width: 1.6; stroke-linecap: round }
  .same-package { stroke-dasharray: 18 3 }
  .remote { stroke-width: 2.4; stroke-dasharray: 7 5 }
  .unknown { stroke-dasharray: 1.5 4; stroke-width: 2.2 }
  .lines g:hover .line { stroke-width: 5 }
)";

constexpr std::string_view kPatterns =
    "<defs>\n"
    "<pattern id=\"hatched\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#fff\"/>"
    "<line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"#777\" stroke-width=\"3\"/></pattern>\n"
    "<pattern id=\"crossed\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"6\" height=\"6\" fill=\"#fff\"/><path d=\"M0 0L6 6M6 0L0 6\" stroke=\"#555\"/></pattern>\n"
    "</defs>\n";

/// Dark enough for lines on white, and told apart by most eyes; the tints of neighbours differ in lightness as well.
struct RankColour {
  std::string_view line;
  std::string_view tint;
};
constexpr std::array<RankColour, 8> kColours = {{{"#00559c", "#d3e5f6"},
                                                 {"#a33c00", "#f3c3a1"},
                                                 {"#00694c", "#cdeee3"},
                                                 {"#8a2a6b", "#dfb3d0"},
                                                 {"#5c4b00", "#f4ecc0"},
                                                 {"#1d3f8f", "#aec2ea"},
                                                 {"#7c1d1d", "#fadcdc"},
                                                 {"#2f5d1e", "#b3d3a5"}}};

const RankColour& colour_of(std::size_t rank) { return kColours[rank % kColours.size()]; }

std::string_view class_of(DrawnDevice::State state) {
  switch (state) {
    case DrawnDevice::State::taken:
      return "taken";
    case DrawnDevice::State::free:
      return "free";
    case DrawnDevice::State::held:
      return "held";
    case DrawnDevice::State::unusable:
      return "unusable";
    case DrawnDevice::State::other:
      break;
  }
  return "other";
}

std::string_view class_of(DrawnPci::Kind kind) {
  switch (kind) {
    case DrawnPci::Kind::root:
      return "pci-root";
    case DrawnPci::Kind::bridge:
      return "pci-bridge";
    case DrawnPci::Kind::gpu:
      return "gpu";
    case DrawnPci::Kind::nic:
      break;
  }
  return "nic";
}

std::string_view class_of(LineKind kind) {
  switch (kind) {
    case LineKind::local:
      return "local";
    case LineKind::package:
      return "same-package";
    case LineKind::remote:
      return "remote";
    case LineKind::unknown:
      break;
  }
  return "unknown";
}

class Writer {
 public:
  explicit Writer(const NodePlan& plan) : plan_(plan) {}

  void open(std::string_view group) { text_ += fmt::format("<g class=\"{}\">\n", group); }
  void close() { text_ += "</g>\n"; }
  void raw(std::string_view text) { text_ += text; }
  void title(std::string_view title) { text_ += fmt::format("<title>{}</title>\n", escape(title)); }

  void box(const Box& box, std::string_view kind, std::string_view fill = {}) {
    text_ += fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}/>\n", kind, box.x, box.y,
                         box.width, box.height, fill.empty() ? "" : fmt::format(" style=\"fill:{}\"", fill));
  }
  /// `width` pixels of room; `x` is where it starts, or its middle for cells.
  void text(int x, int y, int width, std::string_view content, std::string_view kind = {}) {
    text_ += fmt::format("<text{} x=\"{}\" y=\"{}\">{}</text>\n",
                         kind.empty() ? "" : fmt::format(" class=\"{}\"", kind), x, y, escape(fit(content, width)));
  }

  void package(const DrawnPackage& package) {
    open("package-group");
    box(package.box, "package");
    label(package.box, package.label);
    for (const DrawnNumaNode& node : package.numa_nodes) {
      open("numa-group");
      box(node.box, "numa");
      label(node.box, node.label);
      for (const DrawnCore& core : node.cores) draw(core);
      close();
    }
    close();
  }

  void pci(const DrawnPci& pci) {
    open("pci-group");
    title(pci.title);
    box(pci.box, class_of(pci.kind));
    label(pci.box, pci.label);
    for (const DrawnPci& child : pci.children) this->pci(child);
    for (const DrawnDevice& device : pci.devices) draw(device);
    close();
  }

  void line(const DrawnLine& line) {
    const int bend = (line.end_x - line.edge_x) / 2;
    const std::string_view colour = colour_of(line.rank).line;
    const RankPlan& rank = plan_.ranks[line.rank];
    open("line-group");
    title(fmt::format("rank {}: CPUs {}, {}: {}", rank.rank, to_string(rank.cpus), plan_.berths[line.berth].id,
                      rank.reason));
    text_ += fmt::format("<path class=\"line {}\" style=\"stroke:{}\" d=\"M{} {}V{}H{}C{} {} {} {} {} {}\"/>\n",
                         class_of(line.kind), colour, line.start_x, line.start_y, line.lane_y, line.edge_x,
                         line.edge_x + bend, line.lane_y, line.end_x - bend, line.end_y, line.end_x, line.end_y);
    text_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"2.5\" style=\"fill:{}\"/>\n", line.end_x, line.end_y, colour);
    close();
  }

  std::string take() { return std::move(text_); }

 private:
  void label(const Box& box, std::string_view content) {
    constexpr int kIndent = 6;
    constexpr int kBaseline = 13;
    text(box.x + kIndent, box.y + kBaseline, box.width - 2 * kIndent, content);
  }

  void draw(const DrawnCore& core) {
    open("core-group");
    box(core.box, "core");
    for (const DrawnCpu& cpu : core.cpus) {
      open("cpu-group");
      std::string owners;
      for (const std::size_t rank : cpu.ranks)
        owners += fmt::format("{}{}", owners.empty() ? "rank " : ", ", plan_.ranks[rank].rank);
      title(fmt::format("CPU {}: {}", cpu.number, owners.empty() ? "no rank" : owners));
      box(cpu.box, "cpu", cpu.ranks.empty() ? std::string_view() : colour_of(cpu.ranks.front()).tint);
      constexpr int kBaseline = 11;
      constexpr int kNumberWidth = 26;
      text(cpu.box.x + 3, cpu.box.y + kBaseline, kNumberWidth, std::to_string(cpu.number), "cpu-number");
      if (!cpu.ranks.empty()) {
        const unsigned first = plan_.ranks[cpu.ranks.front()].rank;
        const std::string owner =
            cpu.ranks.size() == 1 ? fmt::format("r{}", first) : fmt::format("{}r", cpu.ranks.size());
        text(cpu.box.x + kNumberWidth + 2, cpu.box.y + kBaseline, cpu.box.width - kNumberWidth - 2, owner, "owner");
      }
      close();
    }
    close();
  }

  void draw(const DrawnDevice& device) {
    const std::string_view state = class_of(device.state);
    open("device-group");
    title(device.title);
    const bool taken = !device.ranks.empty();
    box(device.box, state, taken ? colour_of(device.ranks.front()).tint : std::string_view());
    if (taken) {
      text(device.box.x + 8, device.box.y + 13, device.box.width - 16, device.label, "owner");
    } else {
      text(device.box.x + device.box.width / 2, device.box.y + 11, device.box.width, device.label,
           fmt::format("cell-text {}-text", state));
    }
    close();
  }

  const NodePlan& plan_;
  std::string text_;
};

std::string count_text(std::size_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string make_heading(const NodePlan& plan) {
  const std::string ranks = count_text(plan.ranks.size(), "rank");
  return plan.pool.empty() ? fmt::format("{}: {} in the host's network", plan.host, ranks)
                           : fmt::format("{}: {} on pool \"{}\"", plan.host, ranks, plan.pool);
}

std::string summary(const Drawing& drawing, const NodePlan& plan) {
  if (drawing.lines.empty()) return "no rank has a device";
  std::map<std::string, std::size_t> loads;
  std::set<std::size_t> remote;
  for (const DrawnLine& line : drawing.lines) {
    ++loads[plan.berths[line.berth].parent];
    if (line.kind == LineKind::remote) remote.insert(line.rank);
  }
  std::size_t most = 0;
  for (const auto& [parent, load] : loads) most = std::max(most, load);
  return fmt::format("{} remote from their device; the busiest port carries {}", count_text(remote.size(), "rank"),
                     count_text(most, "rank"));
}

std::string description(const NodePlan& plan) {
  std::string text;
  for (const RankPlan& rank : plan.ranks) {
    std::string devices;
    for (const std::size_t berth : berths_of(plan, rank))
      devices += (devices.empty() ? "device " : ", device ") + plan.berths[berth].id;
    text += fmt::format("Rank {}: CPUs {}, {}, {}.\n", rank.rank, to_string(rank.cpus),
                        devices.empty() ? "no device" : devices, rank.reason);
  }
  for (const Rejection& rejection : plan.rejected)
    text += fmt::format("Not taken: {}, {}.\n", rejection.device_id, rejection.reason);
  return text;
}

void draw_legend(Writer& writer, int x, int y) {
  writer.open("legend");
  constexpr int kCellWidth = 26;
  constexpr int kCellHeight = 15;
  const auto cell = [&](std::string_view kind, std::string_view text, int width) {
    writer.box({x, y, kCellWidth, kCellHeight}, kind);
    writer.text(x + kCellWidth + 6, y + 11, width, text);
    x += kCellWidth + width + 12;
  };
  const int left = x;
  cell("free", "device, free", 96);
  cell("held", "leased", 54);
  cell("unusable", "unusable", 68);
  cell("other", "not in the pool", 116);
  writer.text(x, y + 11, 260, "r3: rank 3; 2r: two ranks");
  x = left;
  y += 24;
  for (const auto& [kind, text] :
       {std::pair(LineKind::local, "same NUMA node"), std::pair(LineKind::package, "same package"),
        std::pair(LineKind::remote, "remote"), std::pair(LineKind::unknown, "place unknown")}) {
    writer.raw(
        fmt::format("<path class=\"line {}\" style=\"stroke:#111\" d=\"M{} {}h44\"/>\n", class_of(kind), x, y + 7));
    writer.text(x + 52, y + 11, 110, text);
    x += 170;
  }
  writer.close();
}

}  // namespace

std::string make_plan_svg(const Inventory& inventory, const std::vector<PciFunction>& functions, const NodePlan& plan) {
  return make_svg(make_drawing(inventory, functions, plan), plan, make_heading(plan));
}

std::string make_svg(const Drawing& drawing, const NodePlan& plan, const std::string& heading) {
  Writer writer(plan);
  writer.raw(
      fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
                  "role=\"img\" aria-labelledby=\"title desc\">\n",
                  drawing.width, drawing.height));
  writer.raw(fmt::format("<title id=\"title\">{}</title>\n", escape(heading)));
  std::string words;
  const std::string all = description(plan);
  for (std::size_t start = 0; start < all.size();) {  // line by line: escaping would take the ends of lines away
    const std::size_t end = all.find('\n', start);
    words += escape(all.substr(start, end - start)) + "\n";
    start = end + 1;
  }
  writer.raw(fmt::format("<desc id=\"desc\">{}</desc>\n<style>{}</style>\n{}", words, kStyle, kPatterns));
  writer.open("page-group");
  writer.box({0, 0, drawing.width, drawing.height}, "page");
  constexpr int kLeft = 16;
  writer.text(kLeft, 18, drawing.width - 2 * kLeft - 160, heading, "heading");
  writer.text(kLeft, 35, drawing.width - 2 * kLeft, summary(drawing, plan), "small");
  writer.open("machine-group");
  writer.box(drawing.machine, "machine");
  writer.text(drawing.machine.x + 6, drawing.machine.y + 13, drawing.machine.width - 12, drawing.machine_label);
  for (const DrawnPackage& package : drawing.packages) writer.package(package);
  writer.close();
  for (const DrawnPci& pci : drawing.pci) writer.pci(pci);
  writer.open("lines");
  for (const DrawnLine& line : drawing.lines) writer.line(line);
  writer.close();
  draw_legend(writer, kLeft, drawing.legend_y);
  writer.close();
  writer.raw("</svg>\n");
  return writer.take();
}

}  // namespace berth
