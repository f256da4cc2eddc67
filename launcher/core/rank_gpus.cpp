#include "launcher/core/rank_gpus.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <tuple>

#include "launcher/core/error.hpp"
#include "launcher/core/locality.hpp"

namespace berth {
namespace {

const Gpu& find_gpu(const Inventory& inventory, const std::string& name) {
  const auto pci = parse_pci_address(name);
  std::size_t number = inventory.gpus.size();
  if (!pci) std::from_chars(name.data(), name.data() + name.size(), number);
  for (std::size_t i = 0; i < inventory.gpus.size(); ++i)
    if (pci ? inventory.gpus[i].pci == pci : i == number) return inventory.gpus[i];
  std::vector<std::string> present;
  for (const Gpu& gpu : inventory.gpus) present.push_back(to_string(gpu.pci));
  throw Error(ErrorCode::usage, "cannot choose devices near the ranks' GPUs",
              present.empty() ? fmt::format("{} has no GPU", inventory.host)
                              : fmt::format("{} has no GPU '{}', but {}: {}", inventory.host, name, present.size(),
                                            fmt::join(present, ", ")),
              "correct or leave out --rdma-gpus");
}

/// One of the nearest for each rank, with as few ranks on each as can be had by going through the ranks once.
std::vector<const Gpu*> choose_nearest_gpus(const Inventory& inventory, const std::vector<CpuSet>& allowed) {
  const Locality locality(inventory.topology);
  std::vector<Locality::Device> places;
  for (const Gpu& gpu : inventory.gpus)
    places.push_back(locality.locate(device_cpus(inventory.topology, gpu.numa_node, gpu.local_cpus)));
  std::vector<std::size_t> load(places.size(), 0);
  std::vector<const Gpu*> chosen;
  for (const CpuSet& cpus : allowed) {
    const auto cost = [&](std::size_t gpu) {
      return std::tuple(locality.nearness(cpus, places[gpu]), locality.distance(cpus, places[gpu]), load[gpu]);
    };
    std::size_t best = 0;
    for (std::size_t gpu = 1; gpu < places.size(); ++gpu)
      if (cost(gpu) < cost(best)) best = gpu;
    ++load[best];
    chosen.push_back(&inventory.gpus[best]);
  }
  return chosen;
}

}  // namespace

std::vector<const Gpu*> choose_rank_gpus(const Request& request, const Inventory& inventory,
                                         const std::vector<CpuSet>& allowed) {
  const std::vector<std::string>& wanted = request.gpus;
  if (wanted.empty()) return {};
  if (wanted.front() == kNearestGpus) {
    if (inventory.gpus.empty()) find_gpu(inventory, wanted.front());
    return choose_nearest_gpus(inventory, allowed);
  }
  std::vector<const Gpu*> chosen;
  for (std::size_t rank = 0; rank < allowed.size(); ++rank)
    chosen.push_back(&find_gpu(inventory, wanted[rank % wanted.size()]));
  return chosen;
}

}  // namespace berth
