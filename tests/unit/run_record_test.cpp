#include "launcher/core/run_record.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "launcher/core/error.hpp"

using berth::make_run_record;
using berth::parse_run_record;
using berth::RunRecord;
using namespace std::string_literals;

TEST_CASE("a record of `berth run` crosses unchanged") {
  const RunRecord record{.options = {{"pool", "a=b"}, {"share", ""}, {"env", "X=\n"}},
                         .command = {"./solver", "", "-x\xff"},
                         .environment = {"A=1", "=odd", ""}};
  CHECK(parse_run_record(make_run_record(record)) == record);
}

TEST_CASE("a record that `berth run` did not write is refused") {
  const std::string good = make_run_record({{{"pool", "a"}}, {"true"}, {"A=1"}});
  for (std::size_t size = 0; size < good.size(); ++size) {
    bool has_command = true;  // cut between fields it is a shorter record
    try {
      has_command = !parse_run_record(std::string_view(good).substr(0, size)).command.empty();
    } catch (const berth::Error&) {  // refused, as it should be
    }
    CHECK(has_command);
  }
  CHECK_THROWS_AS(parse_run_record(""), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 2\0ctrue\0"s), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 1\0"s), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 1\0ctrue"s), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 1\0ctrue\0\0"s), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 1\0xtrue\0"s), berth::Error);
  CHECK_THROWS_AS(parse_run_record("berth-run 1\0opool\0ctrue\0"s), berth::Error);
  CHECK_THROWS_AS(make_run_record({{}, {std::string(std::size_t{9} << 20, 'x')}, {}}), berth::Error);
}
