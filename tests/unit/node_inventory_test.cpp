#include "launcher/broker/node_inventory.hpp"

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/unit/temporary_directory.hpp"

using namespace berth;

TEST_CASE("To look at a node where nothing was ever parked makes nothing", "[node_inventory]") {
  const TemporaryDirectory tree;
  tree.directory("sys/class/net");
  const Journal journal(tree.path("state"), Journal::Use::look);
  CHECK(read_node_inventory(journal, tree.path(), "n1", true).held.empty());
  CHECK(journal.ids().empty());
  CHECK_FALSE(journal.can_write());
  CHECK_FALSE(std::filesystem::exists(tree.path("state")));
}

TEST_CASE("A device that comes home while the node is read is seen, on the host or in its berth", "[node_inventory]") {
  const TemporaryDirectory tree;
  tree.directory("sys/class/net/eth7");
  tree.directory("state/leases");
  const Journal journal(tree.path("state"), Journal::Use::look);
  constexpr int kTries = 400;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    tree.file("state/leases/eth7", "not readable, and a record nevertheless");
    std::filesystem::remove(tree.path("sys/class/net/eth7/ifindex"));
    std::thread release([&] {
      const auto when = std::chrono::steady_clock::now() + std::chrono::microseconds(attempt);
      while (std::chrono::steady_clock::now() < when) continue;
      tree.file("sys/class/net/eth7/ifindex", "7\n");
      std::filesystem::remove(tree.path("state/leases/eth7"));
    });
    const Inventory inventory = read_node_inventory(journal, tree.path(), "n1", false);
    release.join();
    REQUIRE_FALSE((inventory.held.empty() && inventory.net_devices.empty()));
  }
}
