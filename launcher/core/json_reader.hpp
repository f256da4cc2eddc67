// Strict reading of JSON that others wrote: right types, known keys, and the place of every complaint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/error.hpp"
#include "launcher/core/values.hpp"

namespace berth {

/// Parses `text`, which came from the file `source`. Throws Error{host} with "FILE:LINE:COLUMN" if it is no JSON, and
/// if it is larger than `limit` bytes, nested more than 32 levels deep or has a key twice in one object. `what` starts
/// the message: "cannot use …".
nlohmann::json parse_json_file(std::string_view text, const std::string& source, const std::string& what,
                               std::size_t limit);

/// One value of such a document. Refers to the document, which has to live longer. Getters throw Error{host} with
/// "FILE: PATH is not …" for what is missing or of another type.
class JsonReader {
 public:
  JsonReader(const nlohmann::json& document, std::string source, std::string what)
      : value_(&document), source_(std::move(source)), what_(std::move(what)) {}

  /// Throws if it is no object, or has a key that is not among these.
  void expect_keys(const std::vector<std::string>& keys) const;
  [[nodiscard]] JsonReader operator[](const std::string& key) const;
  /// nullopt if the object has no such key.
  [[nodiscard]] std::optional<JsonReader> find(const std::string& key) const;
  [[nodiscard]] std::vector<std::string> keys() const;
  [[nodiscard]] std::vector<JsonReader> items() const;
  /// The text of a key that older files lack: then "".
  [[nodiscard]] std::string text_or_none(const std::string& key) const;
  [[nodiscard]] bool has(const std::string& key) const { return value_->is_object() && value_->contains(key); }

  [[nodiscard]] bool is_null() const { return value_->is_null(); }
  [[nodiscard]] bool is_minus_one() const { return *value_ == -1; }
  [[nodiscard]] bool is_empty() const { return value_->empty(); }
  [[nodiscard]] const std::string& text() const;
  [[nodiscard]] std::vector<std::string> texts() const;
  [[nodiscard]] bool flag() const;
  [[nodiscard]] std::uint64_t number(std::uint64_t limit) const;
  [[nodiscard]] unsigned small_number(unsigned limit = UINT32_MAX) const {
    return static_cast<unsigned>(number(limit));
  }
  [[nodiscard]] std::optional<unsigned> optional_number(unsigned limit = UINT32_MAX) const;
  [[nodiscard]] CpuSet cpus() const;
  [[nodiscard]] PciAddress pci() const;

  /// "FILE: PATH is not EXPECTED".
  [[noreturn]] void refuse(std::string_view expected) const;
  /// "FILE: PATH WHY".
  [[noreturn]] void complain(std::string_view why) const;

 private:
  JsonReader child(const nlohmann::json& value, std::string path) const;

  const nlohmann::json* value_;
  std::string source_;
  std::string what_;
  std::string path_;  ///< "node.virtual_functions[3].pci"; empty: the document itself
};

}  // namespace berth
