#include "launcher/core/policy_file.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "launcher/core/error.hpp"
#include "launcher/core/values.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargestText = 1 << 20;  // bytes
constexpr unsigned kMostDots = 1000;           // outside of strings and comments

toml::source_position position_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return {static_cast<toml::source_index>(std::count(before.begin(), before.end(), '\n') + 1),
          static_cast<toml::source_index>(offset - line_begin + 1)};
}

/// Where the dots of dotted keys become too many. Every dot nests a table in the parsed document, and taking that apart
/// recurses; arrays and inline tables are limited by the parser itself.
std::optional<std::size_t> find_deep_key(std::string_view text) {
  unsigned dots = 0;
  char quote = 0;
  bool comment = false;
  for (std::size_t index = 0; index < text.size(); ++index) {
    const char c = text[index];
    if (c == '\n') {
      quote = 0;  // lines of multi-line strings are counted too: too many dots rather than too few
      comment = false;
    } else if (comment) {
      continue;
    } else if (quote != 0) {
      if (c == '\\' && quote == '"') {
        ++index;
      } else if (c == quote) {
        quote = 0;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      comment = true;
    } else if (c == '.' && ++dots > kMostDots) {
      return index;
    }
  }
  return std::nullopt;
}

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a float";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

}  // namespace

std::vector<std::string> texts_of(const std::vector<PolicyString>& strings) {
  std::vector<std::string> texts;
  texts.reserve(strings.size());
  for (const PolicyString& string : strings) texts.push_back(string.text);
  return texts;
}

PolicyFile::PolicyFile(std::string_view text, std::string source) : source_(std::move(source)) {
  if (text.size() > kLargestText) {
    refuse({1, 1}, fmt::format("the file has {} bytes; a policy has {} at most", text.size(), kLargestText));
  }
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    refuse(position_of(text, nul), "there is a NUL byte", "remove it");
  }
  if (text.starts_with("\xef\xbb\xbf")) {
    refuse({1, 1}, "the file starts with a byte order mark", "save it as UTF-8 without one");
  }
  if (const auto dot = find_deep_key(text)) {
    refuse(position_of(text, *dot), fmt::format("the keys have over {} dots", kMostDots), "write tables as [name]");
  }
  try {
    root_ = toml::parse(text, std::string_view(source_));
  } catch (const toml::parse_error& error) {
    refuse(error.source().begin, error.description());
  }
}

void PolicyFile::refuse(toml::source_position where, std::string_view why, std::string fix) const {
  throw Error(ErrorCode::policy, fmt::format("cannot use the policy '{}'", source_),
              fmt::format("{}:{}:{}: {}", source_, where.line, where.column, why), std::move(fix));
}

PolicySection::PolicySection(const PolicyFile& file, const toml::table& table, std::string title_,
                             std::vector<std::string> keys)
    : title(std::move(title_)), file_(&file), table_(&table) {
  if (keys.empty()) return;
  for (auto&& [key, node] : table) {
    if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
    const auto nearest = nearest_word(key.str(), keys);
    refuse(key.source().begin, fmt::format("unknown key '{}'", key.str()),
           nearest ? fmt::format("did you mean '{}'?", *nearest) : fmt::format("known are {}", fmt::join(keys, ", ")));
  }
}

void PolicySection::refuse(toml::source_position where, std::string_view why, std::string fix) const {
  file_->refuse(where, title.empty() ? std::string(why) : fmt::format("{}: {}", title, why), std::move(fix));
}

void PolicySection::refuse(std::string_view key, std::string_view why, std::string fix) const {
  refuse(where(key), why, std::move(fix));
}

void PolicySection::refuse_choice(const PolicyString& value, std::string_view key,
                                  const std::vector<std::string>& known) const {
  const auto nearest = nearest_word(value.text, known);
  refuse(value.where, fmt::format("{} = \"{}\" is none of {}", key, value.text, fmt::join(known, ", ")),
         nearest ? fmt::format("did you mean '{}'?", *nearest) : std::string());
}

void PolicySection::refuse_type(const toml::node& node, std::string_view key, std::string_view expected) const {
  refuse(node.source().begin, fmt::format("'{}' must be {}, not {}", key, expected, type_name(node)));
}

toml::source_position PolicySection::where(std::string_view key) const {
  const toml::node* node = table_->get(key);
  const toml::source_position position = (node == nullptr ? *table_ : *node).source().begin;
  return position.line == 0 ? toml::source_position{1, 1} : position;  // the root table has no place of its own
}

bool PolicySection::is_string(std::string_view key) const {
  const toml::node* node = table_->get(key);
  return node != nullptr && node->is_string();
}

std::optional<bool> PolicySection::flag(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (node == nullptr) return std::nullopt;
  if (!node->is_boolean()) refuse_type(*node, key, "true or false");
  return node->as_boolean()->get();
}

std::optional<std::uint64_t> PolicySection::number(std::string_view key, std::uint64_t least,
                                                   std::uint64_t most) const {
  const toml::node* node = table_->get(key);
  if (node == nullptr) return std::nullopt;
  if (!node->is_integer()) refuse_type(*node, key, "an integer");
  const std::int64_t number = node->as_integer()->get();
  if (number < 0 || static_cast<std::uint64_t>(number) < least || static_cast<std::uint64_t>(number) > most) {
    refuse(key, fmt::format("{} = {} is not between {} and {}", key, number, least, most));
  }
  return static_cast<std::uint64_t>(number);
}

PolicyString PolicySection::plain_string(const toml::node& node, std::string_view key) const {
  if (!node.is_string()) refuse_type(node, key, "a string");
  const std::string& text = node.as_string()->get();
  if (text.empty()) refuse(node.source().begin, fmt::format("'{}' is an empty string", key));
  if (has_control_character(text)) refuse(node.source().begin, fmt::format("'{}' has a control character", key));
  return {text, node.source().begin};
}

std::optional<PolicyString> PolicySection::string(std::string_view key) const {
  const toml::node* node = table_->get(key);
  if (node == nullptr) return std::nullopt;
  return plain_string(*node, key);
}

PolicyString PolicySection::required_string(std::string_view key) const {
  auto value = string(key);
  if (!value) refuse(key, fmt::format("'{}' is missing", key));
  return std::move(*value);
}

std::vector<PolicyString> PolicySection::strings(std::string_view key, bool may_be_empty) const {
  std::vector<PolicyString> strings;
  const toml::node* node = table_->get(key);
  if (node == nullptr) return strings;
  const toml::array* array = node->as_array();
  if (array == nullptr) refuse_type(*node, key, "an array of strings");
  if (array->empty() && !may_be_empty) {
    refuse(key, fmt::format("'{}' is an empty list", key), "leave the key out, or list something");
  }
  std::set<std::string> seen;
  for (const toml::node& element : *array) {
    strings.push_back(plain_string(element, key));
    if (!seen.insert(strings.back().text).second) {
      refuse(strings.back().where, fmt::format("'{}' lists \"{}\" twice", key, strings.back().text));
    }
  }
  return strings;
}

std::vector<std::pair<PolicyString, std::string>> PolicySection::entries() const {
  std::vector<std::pair<PolicyString, std::string>> entries;
  for (auto&& [key, node] : *table_) {
    if (!node.is_string()) refuse_type(node, key.str(), "a string");
    const std::string& value = node.as_string()->get();
    if (value.find('\0') != std::string::npos) {
      refuse(node.source().begin, fmt::format("'{}' has a NUL character", key.str()));
    }
    entries.push_back({{std::string(key.str()), key.source().begin}, value});
  }
  return entries;
}

std::optional<PolicySection> PolicySection::section(std::string_view key, std::vector<std::string> keys) const {
  const toml::node* node = table_->get(key);
  if (node == nullptr) return std::nullopt;
  std::string name = title.empty() ? fmt::format("[{}]", key) : fmt::format("{} {}", title, key);
  if (!node->is_table()) refuse_type(*node, key, fmt::format("a table, written {}", name));
  return PolicySection(*file_, *node->as_table(), std::move(name), std::move(keys));
}

std::vector<PolicySection> PolicySection::sections(std::string_view key, const std::vector<std::string>& keys) const {
  std::vector<PolicySection> sections;
  const toml::node* node = table_->get(key);
  if (node == nullptr) return sections;
  const std::string name = fmt::format("[[{}]]", key);
  const toml::array* array = node->as_array();
  if (array == nullptr) refuse_type(*node, key, fmt::format("an array of tables, written {}", name));
  for (const toml::node& element : *array) {
    if (!element.is_table()) refuse_type(element, key, fmt::format("an array of tables, written {}", name));
    sections.emplace_back(*file_, *element.as_table(), name, keys);
  }
  return sections;
}

}  // namespace berth
