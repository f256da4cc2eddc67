#include "launcher/broker/rdma_moves.hpp"

#include <fmt/format.h>

#include <chrono>
#include <utility>
#include <vector>

#include "launcher/broker/rdma_device.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_rdma.hpp"
#include "launcher/system/polling.hpp"

namespace berth {

namespace {

/// For a driver that probes, the rule of udev that names what it makes, and the kernel that empties a dead netns.
constexpr std::chrono::seconds kHomePatience{10};

bool moves(const LeaseRecord& record) {
  return record.berth.rdma.mode == RdmaMode::exclusive && !record.original.rdma_device.empty();
}

Error vanished(const LeaseRecord& record) {
  return {ErrorCode::host,
          fmt::format("cannot find RDMA device '{}' of {}", record.original.rdma_device, record.berth.id),
          fmt::format("it is neither on the host nor in its berth, and did not come back within {} s",
                      kHomePatience.count()),
          "check that its driver is bound and makes one: rdma link (soft RoCE is made by hand)"};
}

/// From the netns that the caller's thread is in.
void move(const LeaseRecord& record, const UniqueFd& netns) {
  RdmaSocket socket;
  const auto device = socket.find(record.original.rdma_device);
  if (!device) throw vanished(record);
  socket.move(*device, netns);
}

/// What it is called while another device has its name: VFs whose drivers probe at the same time may come back with
/// each other's.
std::string name_aside(const LeaseRecord& record) { return fmt::format("berth-{}", record.original.pci_instance); }

}  // namespace

void await_rdma(const LeaseRecord& record) {
  const std::string& name = record.original.rdma_device;
  if (!is_moved(record.berth.kind) || name.empty()) return;
  RdmaSocket host;
  std::vector<RdmaLink> devices;
  if (poll_until(kHomePatience, [&] {
        devices = find_rdma_on_host(record.berth, record.original.name);
        if (devices.size() != 1) return false;
        if (devices.front().name == name || host.rename(devices.front(), name)) return true;
        if (devices.front().name != name_aside(record))
          static_cast<void>(host.rename(devices.front(), name_aside(record)));
        return false;
      }))
    return;
  if (devices.size() != 1) throw vanished(record);
  throw Error(ErrorCode::host,
              fmt::format("cannot give the RDMA device of {} its name '{}' back", record.berth.id, name),
              "another RDMA device has it", "rename that one: rdma dev set NAME name NEW");
}

void move_rdma_in(const LeaseRecord& record, const UniqueFd& netns) {
  if (moves(record)) move(record, netns);
}

void move_rdma_home(const LeaseRecord& record, const std::optional<UniqueFd>& netns) {
  if (!moves(record) || !netns) return;
  const UniqueFd home = open_current_netns();
  const NetnsGuard inside(*netns);
  RdmaSocket socket;
  if (const auto device = socket.find(record.original.rdma_device)) socket.move(*device, home);
}

void cut_off_rdma_users(const LeaseRecord& record, const UniqueFd& netns) {
  if (!moves(record)) return;
  // Not by way of the host, whose udev would look at it.
  const UniqueFd aside = create_netns();
  for (const auto& [from, to] : {std::pair{&netns, &aside}, std::pair{&aside, &netns}}) {
    const NetnsGuard inside(*from);
    move(record, *to);
  }
  wait_for_rdma(record, netns);
}

}  // namespace berth
