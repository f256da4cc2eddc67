// How long VFs take into their berths and home again, phase by phase, for several at once.
//
//   bench_park_phases [--rdma] VF...      PCI addresses, up and without addresses; as root. Prints a Markdown table.
//
// --rdma: their RDMA devices move along; the kernel's netns mode is exclusive.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <vector>

#include "launcher/broker/berth.hpp"
#include "launcher/broker/device_moves.hpp"
#include "launcher/broker/parallel.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_link.hpp"

using namespace berth;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kRounds = 3;
constexpr int kLinkPatienceMs = 30'000;

enum PhaseName : std::size_t { read, netns, move_in, up, link, move_home, kPhases };

struct Sample {
  std::array<double, kPhases> phases{};  // ms of one VF
};

double since(Clock::time_point& start) {
  const auto now = Clock::now();
  const std::chrono::duration<double, std::milli> elapsed = now - start;
  start = now;
  return elapsed.count();
}

BerthSpec make_spec(const std::string& vf, unsigned index, RdmaMode rdma) {
  BerthSpec spec;
  spec.id = vf;
  spec.pool = "bench";
  spec.kind = PoolKind::sriov;
  spec.pci = parse_pci_address(vf).value();
  spec.parent = "bench";
  spec.interface = "rdma0";
  spec.rdma.mode = rdma;
  spec.addresses = {parse_ip_prefix(fmt::format("10.99.0.{}/24", index + 1)).value()};
  return spec;
}

Sample measure(const Journal& journal, const BerthSpec& spec) {
  Sample sample;
  auto start = Clock::now();
  LeaseRecord record;
  record.berth = spec;
  record.original = read_original(spec);
  sample.phases[PhaseName::read] = since(start);
  const std::optional<UniqueFd> inside = create_netns();
  sample.phases[PhaseName::netns] = since(start);
  bring_in(journal, record, *inside);
  sample.phases[PhaseName::move_in] = since(start);
  {
    LinkSocket socket = LinkSocket::in_netns(*inside);
    const Link netdev = socket.get(spec.interface);
    socket.change(netdev, {.up = true});
    socket.add_address(netdev, spec.addresses.front());
    sample.phases[PhaseName::up] = since(start);
    socket.wait_until_running(netdev, kLinkPatienceMs);
    sample.phases[PhaseName::link] = since(start);
  }
  bring_home(journal, record, inside);
  sample.phases[PhaseName::move_home] = since(start);
  return sample;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// All of park() and unpark() of `specs`, at once and one after the other, in ms.
struct Totals {
  double park = 0, unpark = 0, warm = 0, park_in_turn = 0;
};

Totals measure_all(const Journal& journal, const std::vector<BerthSpec>& specs) {
  Totals totals;
  auto start = Clock::now();
  park(journal, claim(journal, specs));
  totals.park = since(start);
  park(journal, claim(journal, specs));
  totals.warm = since(start);
  run_in_parallel(specs.size(), [&](std::size_t i) { unpark(journal, specs[i].id); });
  totals.unpark = since(start);
  for (const BerthSpec& spec : specs) park(journal, spec);
  totals.park_in_turn = since(start);
  for (const BerthSpec& spec : specs) unpark(journal, spec.id);
  return totals;
}

void print_row(const Journal& journal, const std::vector<std::string>& vfs, std::size_t count, RdmaMode rdma) {
  std::vector<BerthSpec> specs;
  for (std::size_t i = 0; i < count; ++i) specs.push_back(make_spec(vfs[i], static_cast<unsigned>(i), rdma));
  std::array<std::vector<double>, kPhases> phases;
  std::array<std::vector<double>, 4> totals;
  for (int round = 0; round < kRounds; ++round) {
    std::mutex mutex;
    run_in_parallel(count, [&](std::size_t i) {
      const Sample sample = measure(journal, specs[i]);
      const std::lock_guard lock(mutex);
      for (std::size_t phase = 0; phase < kPhases; ++phase) phases[phase].push_back(sample.phases[phase]);
    });
    const Totals all = measure_all(journal, specs);
    totals[0].push_back(all.park);
    totals[1].push_back(all.park_in_turn);
    totals[2].push_back(all.warm);
    totals[3].push_back(all.unpark);
  }
  fmt::print("| {} ", count);
  for (const auto& values : phases) fmt::print("| {:.1f} ", median(values));
  for (const auto& values : totals) fmt::print("| {:.1f} ", median(values));
  fmt::print("|\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> vfs(argv + 1, argv + argc);
  const auto rdma = std::erase(vfs, "--rdma") > 0 ? RdmaMode::exclusive : RdmaMode::off;
  if (vfs.empty()) return 2;
  const std::string state = fmt::format("/run/berth-bench.{}", getpid());
  try {
    const Journal journal(state);
    fmt::print("| VFs at once | read | netns | in | up | link | home | park | in turn | warm | unpark |\n");
    fmt::print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (const std::size_t count : {1U, 2U, 4U, 7U, 14U})
      if (count <= vfs.size()) print_row(journal, vfs, count, rdma);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.render());
    return 1;
  }
  std::filesystem::remove_all(state);
  return 0;
}
