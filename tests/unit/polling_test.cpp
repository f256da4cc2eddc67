#include "launcher/system/polling.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace berth;
using std::chrono::milliseconds;

TEST_CASE("Polling looks at once, goes on until it is so, and once more at the end", "[polling]") {
  int looks = 0;
  CHECK(poll_until(milliseconds{0}, [&] { return ++looks == 1; }));
  CHECK(looks == 1);

  looks = 0;
  CHECK(poll_until(std::chrono::hours{1}, [&] { return ++looks == 3; }));
  CHECK(looks == 3);

  looks = 0;
  CHECK_FALSE(poll_until(milliseconds{0}, [&] { return ++looks == 0; }));
  CHECK(looks == 1);

  looks = 0;
  const auto end = std::chrono::steady_clock::now() + milliseconds{5};
  CHECK_FALSE(poll_until(milliseconds{5}, [&] { return ++looks == 0; }));
  CHECK(looks > 1);
  CHECK(std::chrono::steady_clock::now() >= end);
}
