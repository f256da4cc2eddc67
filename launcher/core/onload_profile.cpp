#include "launcher/core/onload_profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

constexpr unsigned kDeepestImport = 8;

/// One line of a profile, for messages.
struct Place {
  const std::string& path;
  unsigned line = 0;

  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(ErrorCode::host, "cannot use an Onload profile", fmt::format("{}:{}: {}", path, line, why),
                "Berth takes `onload_set NAME VALUE` and `onload_import PROFILE` with plain values, and runs no shell: "
                "make a profile of such lines, or set the EF_… variables in the job");
  }
};

/// The words of a line, with quotes taken away, up to a comment.
std::vector<std::string> split_words(std::string_view line, const Place& place) {
  constexpr std::string_view kShell = "$`\\;&|<>()*?[{!~";
  std::vector<std::string> words;
  bool in_word = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == ' ' || c == '\t') {
      in_word = false;
      continue;
    }
    if (c == '#' && !in_word) break;
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\'' || c == '"') {
      const std::size_t end = line.find(c, i + 1);
      if (end == std::string_view::npos) place.refuse("a quote does not end on its line");
      const std::string_view quoted = line.substr(i + 1, end - i - 1);
      if (c == '"' && quoted.find_first_of("$`\\") != std::string_view::npos)
        place.refuse(fmt::format("\"{}\" is for a shell", quoted));
      words.back() += quoted;
      i = end;
      continue;
    }
    if (kShell.find(c) != std::string_view::npos || static_cast<unsigned char>(c) < ' ' || c == 0x7f)
      place.refuse(fmt::format("'{}' is for a shell", line));
    words.back() += c;
  }
  return words;
}

class Collector {
 public:
  explicit Collector(const OnloadProfileReader& read) : read_(read) {}

  void collect(const OnloadProfile& profile, unsigned depth) {
    std::string_view text = profile.text;
    for (Place place{profile.path, 1}; !text.empty(); ++place.line) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      const auto words = split_words(line, place);
      if (words.empty()) continue;
      if (words.front() == "onload_set") {
        set(words, place);
      } else if (words.front() == "onload_import") {
        if (words.size() != 2) place.refuse("onload_import takes one profile");
        if (depth == kDeepestImport) place.refuse("profiles that import each other lead too deep");
        const auto imported = read_(words[1], true);
        if (!imported) place.refuse(fmt::format("there is no profile '{}' to import", words[1]));
        collect(*imported, depth + 1);
      } else {
        place.refuse(fmt::format("'{}' is neither onload_set nor onload_import", words.front()));
      }
    }
  }

  std::vector<EnvironmentChange> settings;

 private:
  /// `NAME VALUE` or `NAME=VALUE`.
  void set(const std::vector<std::string>& words, const Place& place) {
    std::string name = words.size() > 1 ? words[1] : std::string();
    std::string value = words.size() == 3 ? words[2] : std::string();
    if (words.size() == 2) {
      const std::size_t equals = name.find('=');
      if (equals == std::string::npos) place.refuse("onload_set has no value");
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (words.size() < 2 || words.size() > 3 || value.empty()) place.refuse("onload_set takes a name and a value");
    if (!is_environment_name(name) || !name.starts_with("EF_"))
      place.refuse(fmt::format("'{}' is no variable of Onload (EF_…)", name));
    if (std::ranges::find(settings, name, &EnvironmentChange::name) == settings.end())
      settings.push_back({EnvironmentChange::Action::set, std::move(name), std::move(value)});
  }

  const OnloadProfileReader& read_;
};

}  // namespace

std::vector<EnvironmentChange> collect_onload_settings(const std::vector<std::string>& profiles,
                                                       const OnloadProfileReader& read) {
  Collector collector(read);
  for (const std::string& name : profiles)
    if (const auto profile = read(name, false)) collector.collect(*profile, 0);
  return std::move(collector.settings);
}

}  // namespace berth
