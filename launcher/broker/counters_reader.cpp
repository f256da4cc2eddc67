#include "launcher/broker/counters_reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "launcher/system/link_counters.hpp"
#include "launcher/system/mounts.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/rdma_port.hpp"

namespace berth {

namespace {

bool is_in_netns(int pid, std::uint64_t inode) {
  struct stat status {};
  return stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &status) == 0 && status.st_ino == inode;
}

/// Whether the process is in the berth; in the host's network, whether it is one of the ranks or descends from one.
bool is_of_berth(int pid, const LeaseRecord& record) {
  if (record.netns_inode != 0) return is_in_netns(pid, record.netns_inode);
  if (!record.owner) return false;
  const std::vector<int>& ranks = record.owner->processes;
  return std::ranges::any_of(read_ancestry(pid),
                             [&](int each) { return std::ranges::find(ranks, each) != ranks.end(); });
}

LinkCounters require(const std::optional<LinkCounters>& counters, const LeaseRecord& record) {
  if (counters) return *counters;
  throw Error(ErrorCode::host, fmt::format("cannot read the counters of {}", record.berth.id),
              fmt::format("there is no '{}' in its network namespace", record.berth.interface), "run: berth repair");
}

}  // namespace

BerthLabels make_labels(const LeaseRecord& record) {
  BerthLabels labels{.device = record.berth.id, .pool = record.berth.pool, .interface = record.berth.interface};
  if (!record.owner) return labels;
  labels.job = record.owner->job;
  labels.step = record.owner->step;
  labels.launcher_pid = record.owner->launcher_pid;
  labels.user = record.owner->user;
  labels.container = record.owner->container;
  labels.ranks = record.owner->ranks;
  return labels;
}

RdmaCounters CountersReader::read_rdma(const LeaseRecord& record) const {
  const std::string& name = record.original.rdma_device;
  RdmaSocket socket;
  const auto device = socket.find(name);
  if (!device)
    throw Error(ErrorCode::host, fmt::format("cannot read the counters of RDMA device '{}'", name),
                "it is not where the lease says", "run: berth repair");
  RdmaCounters counters{.device = name,
                        .port = record.original.rdma_port,
                        .shared = !is_moved(record.berth.kind),
                        .counters = socket.counters(*device, record.original.rdma_port),
                        .objects = socket.objects(*device)};
  if (!port_counters_) return counters;
  // The host's own sysfs shows what the host has; that in a berth, only one that is mounted there.
  const UniqueFd sysfs = record.berth.rdma.mode == RdmaMode::exclusive
                             ? create_sysfs()
                             : UniqueFd(open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
  counters.counters.merge(read_rdma_port_counters(sysfs.get(), name, counters.port));
  return counters;
}

RdmaCounters CountersReader::read_host_rdma(const LeaseRecord& record) {
  const std::string key = fmt::format("{}:{}", record.original.rdma_device, record.original.rdma_port);
  auto found = of_host_.find(key);
  if (found == of_host_.end()) found = of_host_.emplace(key, read_rdma(record)).first;
  RdmaCounters counters = found->second;
  // Others' objects on the same device say nothing about this berth.
  std::erase_if(counters.objects, [&](const auto& entry) { return !is_of_berth(entry.first, record); });
  return counters;
}

BerthCounters CountersReader::read(const LeaseRecord& record, const UniqueFd& netns) {
  BerthCounters counters;
  if (netns) {
    const NetnsGuard inside(netns);
    counters.link = require(read_link_counters(record.berth.interface), record);
    if (record.berth.rdma.mode == RdmaMode::exclusive) counters.rdma = read_rdma(record);
  }
  if (record.berth.rdma.mode == RdmaMode::shared) counters.rdma = read_host_rdma(record);
  return counters;
}

std::optional<BerthCounters> CountersReader::read_from_outside(const LeaseRecord& record, int pid) {
  BerthCounters counters;
  if (record.netns_inode != 0) {
    const auto links = read_link_table_of(pid, record.netns_inode);
    if (!links) return std::nullopt;
    counters.link = require(parse_link_counters(*links, record.berth.interface), record);
  }
  if (record.berth.rdma.mode == RdmaMode::shared) counters.rdma = read_host_rdma(record);
  return counters;
}

}  // namespace berth
