#include "launcher/core/xml_text.hpp"

#include <expat.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <optional>

#include "launcher/core/error.hpp"
#include "launcher/core/text_position.hpp"

namespace berth {
namespace {

constexpr std::size_t kLargest = std::size_t{64} << 20U;  // bytes
constexpr std::size_t kMostElements = 1'000'000;
constexpr std::size_t kDeepest = 256;

/// One parse. The first refusal ends it; an exception must not pass through expat, which is C.
class Reading {
 public:
  Reading() : parser_(XML_ParserCreate("UTF-8"), &XML_ParserFree) {
    if (!parser_) throw std::bad_alloc();
    XML_SetUserData(parser_.get(), this);
    XML_SetElementHandler(
        parser_.get(),
        [](void* self, const XML_Char* name, const XML_Char** attributes) {
          as_reading(self).guard([&](Reading& reading) { reading.open(name, attributes); });
        },
        [](void* self, const XML_Char*) { as_reading(self).close(); });
    XML_SetCharacterDataHandler(parser_.get(), [](void* self, const XML_Char* text, int length) {
      as_reading(self).guard([&](Reading& reading) { reading.add({text, static_cast<std::size_t>(length)}); });
    });
    XML_SetStartDoctypeDeclHandler(parser_.get(),
                                   [](void* self, const XML_Char*, const XML_Char*, const XML_Char*, int declares) {
                                     if (declares != 0) as_reading(self).refuse("it has a DOCTYPE with declarations");
                                   });
  }

  /// What is wrong with `text`; empty: nothing.
  std::string read(std::string_view text) {
    if (text.size() > kLargest) return fmt::format("it is larger than {} MiB", kLargest >> 20U);
    // UTF-16, which expat takes for what it is, whatever it was told.
    if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
      refused_at_ = nul;
      return "there is a NUL byte: it is not UTF-8";
    }
    const bool is_read =
        XML_Parse(parser_.get(), text.data(), static_cast<int>(text.size()), XML_TRUE) == XML_STATUS_OK;
    if (exception_) std::rethrow_exception(exception_);
    if (is_read) return {};
    return refusal_.empty() ? XML_ErrorString(XML_GetErrorCode(parser_.get())) : refusal_;
  }

  /// Where it stopped.
  [[nodiscard]] std::size_t offset() const {
    return refused_at_.value_or(
        static_cast<std::size_t>(std::max<XML_Index>(XML_GetCurrentByteIndex(parser_.get()), 0)));
  }
  std::vector<XmlElement> take_elements() { return std::move(elements_); }

 private:
  static Reading& as_reading(void* self) { return *static_cast<Reading*>(self); }

  template <class Act>
  void guard(const Act& act) {
    if (exception_ || !refusal_.empty()) return;  // expat may still tell what it has read already
    try {
      act(*this);
    } catch (...) {
      exception_ = std::current_exception();
      XML_StopParser(parser_.get(), XML_FALSE);
    }
  }

  void refuse(const char* why) {
    refusal_ = why;
    refused_at_ = offset();
    XML_StopParser(parser_.get(), XML_FALSE);
  }

  void open(const XML_Char* name, const XML_Char** attributes) {
    if (open_.size() == kDeepest) return refuse("elements are nested over 256 levels deep");
    if (elements_.size() == kMostElements) return refuse("there are more than a million elements");
    XmlElement element{name, {}, {}, offset(), 0, open_.size()};
    for (; *attributes != nullptr; attributes += 2) element.attributes.emplace_back(attributes[0], attributes[1]);
    open_.push_back(elements_.size());
    elements_.push_back(std::move(element));
  }

  void close() {
    if (exception_ || !refusal_.empty()) return;
    elements_[open_.back()].end = offset() + static_cast<std::size_t>(XML_GetCurrentByteCount(parser_.get()));
    open_.pop_back();
  }

  void add(std::string_view text) {
    const bool has_children = open_.back() + 1 != elements_.size();
    if (!has_children) elements_.back().text += text;
  }

  std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser_;
  std::vector<XmlElement> elements_;
  std::vector<std::size_t> open_;  ///< indices of the elements that are open
  std::string refusal_;
  std::optional<std::size_t> refused_at_;  ///< where, if it was not expat that refused
  std::exception_ptr exception_;
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

std::vector<XmlElement> parse_xml(std::string_view text, const std::string& source, const std::string& what) {
  Reading reading;
  const std::string refusal = reading.read(text);
  if (refusal.empty()) return reading.take_elements();
  throw Error(ErrorCode::host, what, fmt::format("{}:{}: {}", source, position_in(text, reading.offset()), refusal));
}

std::string make_shareable_topology(std::string_view text, const std::string& source) {
  std::string kept;
  std::size_t copied = 0;
  for (const XmlElement& element : parse_xml(text, source, "cannot use the topology")) {
    // What is inside another that was taken away is away already.
    if (element.name != "info" || element.begin < copied || is_shareable(element.attribute("name"))) continue;
    kept += text.substr(copied, element.begin - copied);
    kept.erase(kept.find_last_not_of(" \t") + 1);  // hwloc writes an element per line: take the line away with it
    copied = element.end + (element.end < text.size() && text[element.end] == '\n' && kept.ends_with('\n') ? 1 : 0);
  }
  return kept.append(text.substr(copied));
}

}  // namespace berth
