#include "launcher/core/json_reader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "launcher/core/text_position.hpp"

namespace berth {
namespace {

using nlohmann::json;

constexpr int kDeepest = 32;

/// The parser's complaint without its number and without the place, which is said in our own form.
std::string plain_reason(const json::parse_error& error) {
  std::string_view reason = error.what();
  const std::size_t place = reason.find(": ");
  if (place != std::string_view::npos) reason.remove_prefix(place + 2);
  constexpr std::size_t kLongest = 200;  // it quotes what it read last, which may be most of the file
  return std::string(reason.substr(0, kLongest));
}

}  // namespace

json parse_json_file(std::string_view text, const std::string& source, const std::string& what, std::size_t limit) {
  if (text.size() > limit) {
    throw Error(ErrorCode::host, what, fmt::format("{} is larger than {} MiB", source, limit >> 20U));
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open, outermost first
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kDeepest)
      throw Error(ErrorCode::host, what, fmt::format("{} is nested more than {} levels deep", source, kDeepest));
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      throw Error(ErrorCode::host, what, fmt::format("{} has the key '{}' twice", source, value.get<std::string>()));
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::parse_error& error) {
    const std::size_t offset = error.byte == 0 ? 0 : error.byte - 1;
    throw Error(ErrorCode::host, what,
                fmt::format("{}:{}: {}", source, position_in(text, offset), plain_reason(error)));
  } catch (const json::exception& error) {  // a number that no type holds
    throw Error(ErrorCode::host, what, fmt::format("{}: {}", source, error.what()));
  }
}

void JsonReader::complain(std::string_view why) const {
  throw Error(ErrorCode::host, what_, fmt::format("{}: {} {}", source_, path_.empty() ? "the file" : path_, why));
}

void JsonReader::refuse(std::string_view expected) const { complain(fmt::format("is not {}", expected)); }

JsonReader JsonReader::child(const json& value, std::string path) const {
  JsonReader reader(value, source_, what_);
  reader.path_ = std::move(path);
  return reader;
}

void JsonReader::expect_keys(const std::vector<std::string>& keys) const {
  if (!value_->is_object()) refuse("an object");
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    complain(fmt::format("has the key '{}', which this version of Berth does not know", key));
  }
}

JsonReader JsonReader::operator[](const std::string& key) const {
  if (!value_->is_object()) refuse("an object");
  const auto found = value_->find(key);
  if (found == value_->end()) complain(fmt::format("has no '{}'", key));
  return child(*found, path_.empty() ? key : path_ + "." + key);
}

std::optional<JsonReader> JsonReader::find(const std::string& key) const {
  if (!value_->is_object()) refuse("an object");
  if (!value_->contains(key)) return std::nullopt;
  return (*this)[key];
}

std::vector<std::string> JsonReader::keys() const {
  if (!value_->is_object()) refuse("an object");
  std::vector<std::string> keys;
  for (const auto& [key, value] : value_->items()) keys.push_back(key);
  return keys;
}

std::vector<JsonReader> JsonReader::items() const {
  if (!value_->is_array()) refuse("an array");
  std::vector<JsonReader> readers;
  for (const json& value : *value_) readers.push_back(child(value, fmt::format("{}[{}]", path_, readers.size())));
  return readers;
}

std::string JsonReader::text_or_none(const std::string& key) const {
  return has(key) ? (*this)[key].text() : std::string{};
}

const std::string& JsonReader::text() const {
  if (!value_->is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}

std::vector<std::string> JsonReader::texts() const {
  std::vector<std::string> texts;
  for (const JsonReader& item : items()) texts.push_back(item.text());
  return texts;
}

bool JsonReader::flag() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

std::uint64_t JsonReader::number(std::uint64_t limit) const {
  if (!value_->is_number_unsigned() || value_->get<std::uint64_t>() > limit) {
    refuse(fmt::format("a whole number from 0 to {}", limit));
  }
  return value_->get<std::uint64_t>();
}

std::optional<unsigned> JsonReader::optional_number(unsigned limit) const {
  if (is_null()) return std::nullopt;
  return small_number(limit);
}

CpuSet JsonReader::cpus() const {
  const auto cpus = parse_cpu_list(text());
  if (!cpus) refuse("a CPU list such as \"0-3,8\"");
  return *cpus;
}

PciAddress JsonReader::pci() const {
  const auto address = parse_pci_address(text());
  if (!address) refuse("a PCI address such as \"0000:3b:02.1\"");
  return *address;
}

}  // namespace berth
