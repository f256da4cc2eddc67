// RDMA devices that move all at once, as those of a node's VFs do when it parks them. The suite rig_boots runs this.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <string>
#include <thread>
#include <vector>

#include "launcher/core/error.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/netlink_rdma.hpp"

using namespace berth;

namespace {

constexpr unsigned kMoves = 20;  // of each device

void move_back_and_forth(const RdmaLink& device) {
  const UniqueFd home = open_current_netns(), away = create_netns();
  for (unsigned i = 0; i < kMoves; ++i) {
    RdmaSocket().move(device, away);
    const NetnsGuard inside(away);
    RdmaSocket().move(device, home);
  }
}

}  // namespace

TEST_CASE("Devices move at the same time, and a device that stays is always found") {
  RdmaSocket socket;
  const std::vector<RdmaLink> before = socket.list();
  std::vector<RdmaLink> moving = before;
  std::ranges::sort(moving, {}, &RdmaLink::index);
  REQUIRE(moving.size() > 2);
  const RdmaLink stays = moving.back();  // the kernel lists it last, so each that leaves comes before it
  moving.pop_back();

  std::atomic<std::size_t> under_way = moving.size();
  std::vector<std::string> errors(moving.size());
  unsigned found = 0, missed = 0;
  {
    std::vector<std::jthread> movers;
    for (std::size_t i = 0; i < moving.size(); ++i)
      movers.emplace_back([&, i] {
        try {
          move_back_and_forth(moving[i]);
        } catch (const Error& error) {
          errors[i] = error.render();
        }
        --under_way;
      });
    while (under_way > 0) ++(socket.find(stays.name) ? found : missed);
  }
  CHECK(errors == std::vector<std::string>(moving.size()));
  CHECK(missed == 0);
  CHECK(found > 0);  // how often depends on the machine
  CHECK(socket.list() == before);
}
