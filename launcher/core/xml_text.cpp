#include "launcher/core/xml_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/core/error.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargest = std::size_t{64} << 20U;  // bytes
constexpr std::size_t kDeepest = 256;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.' || c == ':';
}

/// Walks over the text; `at_` never passes the end.
class Scanner {
 public:
  Scanner(std::string_view text, const std::string& source, const std::string& what)
      : text_(text), source_(source), what_(what) {}

  std::vector<XmlElement> scan() {
    if (text_.size() > kLargest) fail(0, fmt::format("it is larger than {} MiB", kLargest >> 20U));
    if (const std::size_t nul = text_.find('\0'); nul != std::string_view::npos) fail(nul, "there is a NUL byte");
    while (at_ < text_.size()) {
      if (text_[at_] != '<') {
        skip_text();
      } else if (skip_between("<?", "?>") || skip_between("<!--", "-->") || skip_doctype()) {
        continue;
      } else if (starts_with("</")) {
        close();
      } else {
        open();
      }
    }
    if (!open_.empty()) {
      const XmlElement& last = elements_[open_.back()];
      fail(text_.size(), fmt::format("the file ends inside <{}>", last.name));
    }
    if (elements_.empty()) fail(0, "there is no element: it is not XML");
    return std::move(elements_);
  }

 private:
  [[noreturn]] void fail(std::size_t offset, std::string_view why) const {
    throw Error(ErrorCode::host, what_, fmt::format("{}:{}: {}", source_, position_in(text_, offset), why));
  }

  [[nodiscard]] bool starts_with(std::string_view word) const { return text_.substr(at_).starts_with(word); }
  [[nodiscard]] char next() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  void skip_text() {
    const std::size_t end = std::min(text_.find('<', at_), text_.size());
    if (open_.empty()) {
      const auto* stray = std::find_if_not(text_.begin() + at_, text_.begin() + end, is_space);
      const auto offset = static_cast<std::size_t>(stray - text_.begin());
      if (offset < end) fail(offset, "there is text outside the elements: it is not XML");
    }
    at_ = end;
  }

  bool skip_between(std::string_view begin, std::string_view end) {
    if (!starts_with(begin)) return false;
    const std::size_t found = text_.find(end, at_ + begin.size());
    if (found == std::string_view::npos) fail(at_, fmt::format("'{}' has no '{}'", begin, end));
    at_ = found + end.size();
    return true;
  }

  bool skip_doctype() {
    if (!starts_with("<!DOCTYPE")) return false;
    const std::size_t end = text_.find_first_of("[>", at_);
    if (end == std::string_view::npos) fail(at_, "'<!DOCTYPE' has no '>'");
    if (text_[end] == '[') fail(end, "a DOCTYPE with declarations is not accepted");
    at_ = end + 1;
    return true;
  }

  std::string_view name() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name_character(text_[at_])) ++at_;
    if (at_ == begin) fail(begin, at_ < text_.size() ? "a name was expected" : "the file ends inside a tag");
    return text_.substr(begin, at_ - begin);
  }

  std::string_view value() {
    skip_space();
    if (next() != '=') fail(at_, "'=' was expected");
    ++at_;
    skip_space();
    const char quote = next();
    if (quote != '"' && quote != '\'') fail(at_, "a quoted value was expected");
    const std::size_t begin = ++at_;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) fail(begin - 1, "the quote is not closed");
    if (const std::size_t less = text_.substr(begin, end - begin).find('<'); less != std::string_view::npos) {
      fail(begin + less, "there is a '<' in a value");
    }
    at_ = end + 1;
    return text_.substr(begin, end - begin);
  }

  void open() {
    XmlElement element;
    element.begin = at_++;
    element.name = name();
    element.depth = open_.size();
    if (element.depth >= kDeepest) fail(element.begin, fmt::format("elements nest over {} levels deep", kDeepest));
    if (element.depth == 0 && !elements_.empty()) fail(element.begin, "there is a second root element");
    for (skip_space(); next() != '>' && next() != '/'; skip_space()) {
      const std::size_t place = at_;
      const std::string_view key = name();
      if (element.attributes.end() != std::find_if(element.attributes.begin(), element.attributes.end(),
                                                   [&](const auto& known) { return known.first == key; })) {
        fail(place, fmt::format("attribute '{}' is there twice", key));
      }
      element.attributes.emplace_back(key, value());
    }
    element.is_empty = next() == '/';
    if (element.is_empty) ++at_;
    if (next() != '>') fail(at_, "'>' was expected");
    element.end = ++at_;
    if (!element.is_empty) open_.push_back(elements_.size());
    elements_.push_back(std::move(element));
  }

  void close() {
    const std::size_t place = at_;
    at_ += 2;
    const std::string_view closing = name();
    skip_space();
    if (next() != '>') fail(at_, "'>' was expected");
    ++at_;
    if (open_.empty()) fail(place, fmt::format("</{}> closes nothing", closing));
    const XmlElement& opened = elements_[open_.back()];
    if (opened.name != closing) fail(place, fmt::format("</{}> does not close <{}>", closing, opened.name));
    open_.pop_back();
  }

  std::string_view text_;
  const std::string& source_;
  const std::string& what_;
  std::size_t at_ = 0;
  std::vector<std::size_t> open_;  ///< indices of the elements that are open
  std::vector<XmlElement> elements_;
};

/// What the planner and the drawing read of hwloc's notes, and what tells one model of machine from another.
bool is_shareable(std::string_view info) {
  constexpr std::string_view kPort = "Port";
  if (info.starts_with(kPort) && info.ends_with("State")) return true;
  static constexpr std::string_view kNames[] = {
      "Architecture", "Backend",  "CPUFamilyNumber", "CPUModel",  "CPUModelNumber", "CPUStepping",  "CPUVendor",
      "CoProcType",   "GPUModel", "GPUVendor",       "PCIDevice", "PCIVendor",      "SysImageGUID", "hwlocVersion"};
  return std::find(std::begin(kNames), std::end(kNames), info) != std::end(kNames);
}

}  // namespace

std::string_view XmlElement::attribute(std::string_view key) const {
  for (const auto& [own_key, value] : attributes)
    if (own_key == key) return value;
  return {};
}

std::string position_in(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  return fmt::format("{}:{}", line, newline == std::string_view::npos ? before.size() + 1 : before.size() - newline);
}

std::vector<XmlElement> parse_xml(std::string_view text, const std::string& source, const std::string& what) {
  return Scanner(text, source, what).scan();
}

std::string make_shareable_topology(std::string_view text, const std::string& source) {
  std::string kept;
  std::size_t copied = 0;
  for (const XmlElement& element : parse_xml(text, source, "cannot use the topology")) {
    if (element.name != "info" || !element.is_empty || is_shareable(element.attribute("name"))) continue;
    kept += text.substr(copied, element.begin - copied);
    kept.erase(kept.find_last_not_of(" \t") + 1);  // hwloc writes an element per line: take the line away with it
    copied = element.end + (element.end < text.size() && text[element.end] == '\n' && kept.ends_with('\n') ? 1 : 0);
  }
  return kept.append(text.substr(copied));
}

}  // namespace berth
