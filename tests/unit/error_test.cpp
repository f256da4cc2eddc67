#include "launcher/core/error.hpp"

#include <catch2/catch_test_macros.hpp>

#include "launcher/core/error_json.hpp"

using berth::Error;
using berth::ErrorCode;
using berth::escape_for_terminal;

TEST_CASE("An error renders as what, why and fix", "[error]") {
  const Error error(ErrorCode::busy, "cannot give rank 3 a device", "all 8 are leased", "wait");
  CHECK(error.render() == "berth: cannot give rank 3 a device\n  why: all 8 are leased\n  fix: wait");
  CHECK(std::string(error.what()) == "cannot give rank 3 a device");
  CHECK(error.code == ErrorCode::busy);
}

TEST_CASE("An error without a fix or a reason leaves the line out", "[error]") {
  CHECK(Error(ErrorCode::host, "no NIC", "none found").render() == "berth: no NIC\n  why: none found");
  CHECK(Error(ErrorCode::host, "no NIC", "", "add one").render() == "berth: no NIC\n  fix: add one");
}

TEST_CASE("User input cannot forge lines of a message", "[error]") {
  const Error error(ErrorCode::usage, "cannot use 'a\nberth: all is well\x1b[2J'", "x\r\ny");
  CHECK(error.render() == "berth: cannot use 'a\\x0aberth: all is well\\x1b[2J'\n  why: x\\x0d\\x0ay");
}

TEST_CASE("Escaping keeps text and shows what a terminal would act on", "[error]") {
  CHECK(escape_for_terminal("plain 'text' ~ \\") == "plain 'text' ~ \\");
  CHECK(escape_for_terminal("gr\u00fc\u00df 日本 🙂 …") == "gr\u00fc\u00df 日本 🙂 …");
  CHECK(escape_for_terminal(std::string_view("a\0b\t\x7f", 5)) == "a\\x00b\\x09\\x7f");
  CHECK(escape_for_terminal("\u0085") == "\\xc2\\x85");  // C1: next line
  CHECK(escape_for_terminal("\u202egnp.exe") == "\\xe2\\x80\\xaegnp.exe");
  CHECK(escape_for_terminal("\u2066x\u2069") == "\\xe2\\x81\\xa6x\\xe2\\x81\\xa9");
  CHECK(escape_for_terminal("\u2028") == "\\xe2\\x80\\xa8");
}

TEST_CASE("Bytes that are not UTF-8 are shown one by one", "[error]") {
  CHECK(escape_for_terminal("\xff\xfe") == "\\xff\\xfe");
  CHECK(escape_for_terminal("\xc0\xaf") == "\\xc0\\xaf");                    // overlong '/'
  CHECK(escape_for_terminal("\xe0\x80\xaf") == "\\xe0\\x80\\xaf");           // overlong '/'
  CHECK(escape_for_terminal("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // surrogate
  CHECK(escape_for_terminal("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
  CHECK(escape_for_terminal("a\xe2\x80") == "a\\xe2\\x80");                  // cut short
  CHECK(escape_for_terminal("\xe2\x80"
                            "b") ==
        "\\xe2\\x80"
        "b");
}

TEST_CASE("Classes of errors have stable names", "[error]") {
  CHECK(to_string(ErrorCode::usage) == "usage");
  CHECK(to_string(ErrorCode::policy) == "policy");
  CHECK(to_string(ErrorCode::image) == "image");
  CHECK(to_string(ErrorCode::busy) == "busy");
  CHECK(to_string(ErrorCode::host) == "host");
  CHECK(to_string(ErrorCode::internal) == "internal");
}

TEST_CASE("An error crosses to another process, with every byte still visible", "[error]") {
  for (const ErrorCode code : berth::kErrorCodes) {
    const Error sent(code, "cannot use '\xff\n'", "because", "wait");
    const Error error = berth::parse_error(nlohmann::json::parse(berth::to_json_value(sent).dump()));
    CHECK(error.code == code);
    CHECK(error.render() == sent.render());
  }
}

TEST_CASE("What is no error record is an error of its own", "[error]") {
  for (const char* text : {"[", "7", R"({"error": 1})", R"({"error": {"code": "busy", "what": "x", "why": "y"}})",
                           R"({"error": {"code": "mild", "what": "x", "why": "y", "fix": ""}})"}) {
    INFO(text);
    const Error error = berth::parse_error(nlohmann::json::parse(text, nullptr, false));
    CHECK(error.code == ErrorCode::internal);
    CHECK(error.why.find("malformed") != std::string::npos);
  }
}
