#include "launcher/core/run_record.hpp"

#include <fmt/format.h>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

constexpr std::string_view kVersion{"berth-run 1\0", 12};

[[noreturn]] void refuse(std::string why, std::string fix) {
  throw Error(ErrorCode::usage, "cannot run the command", std::move(why), std::move(fix));
}

void append(std::string& text, char tag, std::string_view value) {
  text += tag;
  text += value;
  text += '\0';
}

}  // namespace

std::string make_run_record(const RunRecord& record) {
  std::string text(kVersion);
  for (const auto& [name, value] : record.options) append(text, 'o', fmt::format("{}={}", name, value));
  for (const std::string& argument : record.command) append(text, 'c', argument);
  for (const std::string& variable : record.environment) append(text, 'e', variable);
  if (text.size() > kLongestRunRecord)
    refuse(fmt::format("command and environment have {} bytes, at most {} are allowed", text.size(), kLongestRunRecord),
           "unset large variables, or pass arguments in a file");
  return text;
}

RunRecord parse_run_record(std::string_view text) {
  const char* const mismatch = "make sure that berth and berth-enter are of the same version";
  if (text.size() > kLongestRunRecord || !text.starts_with(kVersion))
    refuse("this is no record of `berth run`", mismatch);
  text.remove_prefix(kVersion.size());
  RunRecord record;
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos || end == 0) refuse("the record of `berth run` is damaged", mismatch);
    const std::string value(text.substr(1, end - 1));
    const std::size_t equals = value.find('=');
    switch (text.front()) {
      case 'o':
        if (equals == std::string::npos) refuse("the record of `berth run` is damaged", mismatch);
        record.options.emplace_back(value.substr(0, equals), value.substr(equals + 1));
        break;
      case 'c':
        record.command.push_back(value);
        break;
      case 'e':
        record.environment.push_back(value);
        break;
      default:
        refuse("the record of `berth run` has an unknown field", mismatch);
    }
    text.remove_prefix(end + 1);
  }
  if (record.command.empty()) refuse("there is no command", mismatch);
  return record;
}

}  // namespace berth
