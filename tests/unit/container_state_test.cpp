#include "hooks/container_state.hpp"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/error.hpp"

using namespace berth;

namespace {

constexpr std::size_t kLimit = 1U << 20U;

std::string state_with(const std::string& annotations) {
  return fmt::format(R"({{"ociVersion": "1.0.2", "id": "web1", "status": "creating", "pid": 4711,
    "bundle": "/run/bundle", "root": "/x", "annotations": {{{}}}}})",
                     annotations);
}

ContainerConfig config_with(const std::string& devices) {
  return parse_container_config(
      fmt::format(R"({{"root": {{"path": "rootfs"}}, "linux": {{"resources": {{"devices": [{}]}}}}}})", devices),
      kLimit);
}

const RdmaNode kUverbs{"uverbs2", 231, 194, 0666, 0, 0};
const RdmaNode kCm{"rdma_cm", 10, 58, 0666, 0, 0};

}  // namespace

TEST_CASE("a container's state says what it asks for") {
  const auto state = parse_container_state(
      state_with(R"("org.x": "y", "berth.pool": "fast", "berth.device": "0000:3b:02.1", "berth.interface": "eth1")"),
      kLimit);
  REQUIRE(state);
  CHECK(state->id == "web1");
  CHECK(state->pid == 4711);
  CHECK(state->bundle == "/run/bundle");
  CHECK(state->request.pool == "fast");
  CHECK(state->request.device == "0000:3b:02.1");
  CHECK(state->request.interface == "eth1");
}

TEST_CASE("a container that does not ask is left alone, whatever else its state says") {
  CHECK_FALSE(parse_container_state(state_with(R"("org.x": "y")"), kLimit));
  CHECK_FALSE(parse_container_state("{}", kLimit));
  CHECK_FALSE(parse_container_state(R"({"annotations": null, "id": 7})", kLimit));
}

TEST_CASE("a stopped container has no process") {
  const auto state = parse_container_state(
      R"({"id": "web1", "status": "stopped", "bundle": "/b", "annotations": {"berth.pool": "fast"}})", kLimit);
  REQUIRE(state);
  CHECK(state->pid == 0);
}

TEST_CASE("the last device rule that speaks of a device counts") {
  const auto denied = [](const std::string& rules) {
    return find_denied(config_with(rules).devices, {kUverbs, kCm}).size();
  };
  CHECK(denied("") == 2);
  CHECK(denied(R"({"allow": false, "access": "rwm"})") == 2);
  CHECK(denied(R"({"allow": true, "access": "rwm"})") == 0);
  CHECK(denied(R"({"allow": true, "type": "a", "access": "rwm"}, {"allow": false, "type": "c", "major": 231})") == 1);
  CHECK(denied(R"({"allow": true, "type": "c", "major": 231, "minor": -1, "access": "rw"})") == 1);
  CHECK(denied(R"({"allow": true, "type": "c", "major": 231, "minor": 193, "access": "rw"})") == 2);
  CHECK(denied(R"({"allow": true, "type": "b", "access": "rw"})") == 2);
  CHECK(denied(R"({"allow": true, "type": "c", "access": "r"})") == 2);
  CHECK(denied(R"({"allow": true, "type": "c", "access": "r"}, {"allow": true, "type": "c", "access": "w"})") == 0);
}

TEST_CASE("a bundle's configuration says where its root is, and is read strictly where it is read") {
  CHECK(config_with("").root == "rootfs");
  CHECK(parse_container_config(R"({"root": {"path": "/r"}})", kLimit).devices.empty());
  CHECK_THROWS_AS(parse_container_config(R"({"linux": {}})", kLimit), Error);
  CHECK_THROWS_AS(config_with(R"({"allow": 1})"), Error);
  CHECK_THROWS_AS(config_with(R"({"allow": true, "major": -2})"), Error);
  CHECK_THROWS_AS(config_with(R"({"type": "c"})"), Error);
}
