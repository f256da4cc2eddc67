#include "launcher/broker/parallel.hpp"

#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace berth;

namespace {

std::string thrown_by(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("All bodies run, whichever of them throw, and the first that threw is heard", "[parallel]") {
  std::array<std::atomic<int>, 100> runs{};
  const auto body = [&](std::size_t i) {
    ++runs.at(i);
    if (i % 10 == 3) throw std::runtime_error(std::to_string(i));
  };
  CHECK(thrown_by([&] { run_in_parallel(runs.size(), body); }) == "3");
  for (const auto& count : runs) CHECK(count == 1);
  CHECK(thrown_by([&] { run_in_parallel(3, body); }) == "nothing");
  CHECK(thrown_by([&] { run_in_parallel(0, body); }) == "nothing");
}

TEST_CASE("Entries of one group run in their order, one after the other, also behind one that threw", "[parallel]") {
  const std::vector<std::string> groups{"a", "b", "a", "c", "a", "b"};
  std::vector<std::size_t> of_a;  // without a lock: only one thread at a time may write
  const auto body = [&](std::size_t i) {
    if (groups[i] != "a") return;
    of_a.push_back(i);
    if (i != 4) throw std::runtime_error(std::to_string(i));
  };
  CHECK(thrown_by([&] { run_in_parallel(groups, body); }) == "0");
  CHECK(of_a == std::vector<std::size_t>{0, 2, 4});
}
