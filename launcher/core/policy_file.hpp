// The policy as a TOML document, read strictly: only known keys, right types, and a position for every complaint.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

/// What every complaint needs: the name of the file.
class PolicyFile {
 public:
  /// Throws Error{policy} if `text` is not TOML, is over 1 MiB, has NUL bytes, or nests too deeply.
  PolicyFile(std::string_view text, std::string source);

  [[nodiscard]] const toml::table& root() const { return root_; }
  [[noreturn]] void refuse(toml::source_position where, std::string_view why, std::string fix = {}) const;

 private:
  std::string source_;
  toml::table root_;
};

/// A string of the document and where it stands.
struct PolicyString {
  std::string text;
  toml::source_position where;
};

std::vector<std::string> texts_of(const std::vector<PolicyString>& strings);

/// One table of the document. Getters return nothing for keys that are not there, and throw Error{policy} for values
/// of a wrong type. Refers to the PolicyFile, which has to live longer.
class PolicySection {
 public:
  /// `title` names the table in messages. Throws if the table has a key that is not in `keys`; an empty list of keys
  /// means that any key is fine.
  PolicySection(const PolicyFile& file, const toml::table& table, std::string title, std::vector<std::string> keys);

  [[nodiscard]] bool has(std::string_view key) const { return table_->contains(key); }
  [[nodiscard]] toml::source_position where(std::string_view key) const;  ///< of the value, or of the table itself
  [[nodiscard]] bool is_string(std::string_view key) const;

  [[nodiscard]] std::optional<bool> flag(std::string_view key) const;
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view key, std::uint64_t least,
                                                    std::uint64_t most) const;
  /// Without control characters and not empty, as names and paths have to be.
  [[nodiscard]] std::optional<PolicyString> string(std::string_view key) const;
  [[nodiscard]] PolicyString required_string(std::string_view key) const;
  /// The one of `choices` whose to_string() is the value.
  template <typename Choice>
  [[nodiscard]] std::optional<Choice> choice(std::string_view key, std::initializer_list<Choice> choices) const {
    if (!has(key)) return std::nullopt;
    return required_choice(key, choices);
  }
  template <typename Choice>
  [[nodiscard]] Choice required_choice(std::string_view key, std::initializer_list<Choice> choices) const {
    const PolicyString value = required_string(key);
    std::vector<std::string> known;
    for (const Choice choice : choices) {
      if (value.text == to_string(choice)) return choice;
      known.emplace_back(to_string(choice));
    }
    refuse_choice(value, key, known);
  }
  /// Strings as above, all different; an empty array counts as a mistake unless `may_be_empty`.
  [[nodiscard]] std::vector<PolicyString> strings(std::string_view key, bool may_be_empty) const;
  /// All entries of the table, which have to be strings; they may be empty and have any character but NUL.
  [[nodiscard]] std::vector<std::pair<PolicyString, std::string>> entries() const;
  [[nodiscard]] std::optional<PolicySection> section(std::string_view key, std::vector<std::string> keys) const;
  /// The tables of "[[key]]".
  [[nodiscard]] std::vector<PolicySection> sections(std::string_view key, const std::vector<std::string>& keys) const;

  [[noreturn]] void refuse(toml::source_position where, std::string_view why, std::string fix = {}) const;
  [[noreturn]] void refuse(std::string_view key, std::string_view why, std::string fix = {}) const;
  /// A value that is none of `known`: says which are, and the nearest.
  [[noreturn]] void refuse_choice(const PolicyString& value, std::string_view key,
                                  const std::vector<std::string>& known) const;

  std::string title;

 private:
  [[nodiscard]] PolicyString plain_string(const toml::node& node, std::string_view key) const;
  [[noreturn]] void refuse_type(const toml::node& node, std::string_view key, std::string_view expected) const;

  const PolicyFile* file_;
  const toml::table* table_;
};

}  // namespace berth
