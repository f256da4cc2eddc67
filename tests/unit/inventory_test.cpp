#include "launcher/core/inventory.hpp"

#include <catch2/catch_test_macros.hpp>

#include "tests/unit/synthetic_node.hpp"

using namespace berth;

TEST_CASE("Link states have names", "[inventory]") {
  CHECK(to_string(LinkState::unknown) == "unknown");
  CHECK(to_string(LinkState::down) == "down");
  CHECK(to_string(LinkState::up) == "up");
}

TEST_CASE("Equal nodes have equal inventories, and one lease more makes them differ", "[inventory]") {
  const Inventory node = two_socket_node();
  Inventory other = two_socket_node();
  CHECK(node == other);
  other.held.push_back({"0000:3b:02.0", true, true, "job 1.0 (alice)", ""});
  CHECK(node != other);
}
