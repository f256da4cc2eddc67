// XML as a list of elements. Pure; expat reads it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

struct XmlElement {
  std::string name;
  std::vector<std::pair<std::string, std::string>> attributes;  ///< in the order of the text
  std::string text;       ///< what stands between its start tag and its first child or its end
  std::size_t begin = 0;  ///< offset of '<' of its start tag
  std::size_t end = 0;    ///< offset behind '>' of its end tag
  std::size_t depth = 0;  ///< 0: the root element

  [[nodiscard]] std::string_view attribute(std::string_view key) const;  ///< empty if there is none
};

/// Every element of `text`, which is UTF-8 whatever it says itself, in document order. A DOCTYPE may name a file, which
/// is not read, but declare nothing: so entities cannot grow.
/// Throws Error{host} (`what`, "FILE:LINE:COLUMN: …") for what is not well-formed, for text of more than 64 MiB or with
/// more than a million elements, and for elements nested more than 256 levels deep, which recursive readers would not
/// survive.
std::vector<XmlElement> parse_xml(std::string_view text, const std::string& source, const std::string& what);

/// The hwloc XML `text` without the notes that planning does not read and that may tell more than a machine's shape:
/// serial numbers, MAC addresses, cgroups, kernel versions. Throws as parse_xml() does.
std::string make_shareable_topology(std::string_view text, const std::string& source);

}  // namespace berth
