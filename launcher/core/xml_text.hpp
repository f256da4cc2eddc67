// A look at XML text before a library reads it: is it well-formed, and what are its elements.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

struct XmlElement {
  std::string_view name;
  std::vector<std::pair<std::string_view, std::string_view>> attributes;  ///< values as written, entities and all
  std::size_t begin = 0;                                                  ///< offset of '<' of its (start) tag
  std::size_t end = 0;                                                    ///< offset behind '>' of that tag
  std::size_t depth = 0;                                                  ///< 0: the root element
  bool is_empty = false;                                                  ///< written <NAME/>

  [[nodiscard]] std::string_view attribute(std::string_view key) const;  ///< empty if there is none
};

/// "LINE:COLUMN" of a byte of `text`, both from 1.
std::string position_in(std::string_view text, std::size_t offset);

/// Every element of `text` in document order. Knows elements, attributes, text, comments, a DOCTYPE without
/// declarations of its own, and nothing else: entities cannot grow, and nothing outside is read.
/// Throws Error{host} (`what`, "FILE:LINE:COLUMN: …") if tags do not match, for a syntax it does not know, for text of
/// more than 64 MiB, and for elements nested more than 256 levels deep, which recursive readers would not survive.
std::vector<XmlElement> parse_xml(std::string_view text, const std::string& source, const std::string& what);

/// The hwloc XML `text` without the notes that planning does not read and that may tell more than a machine's shape:
/// serial numbers, MAC addresses, cgroups, kernel versions. Throws as parse_xml() does.
std::string make_shareable_topology(std::string_view text, const std::string& source);

}  // namespace berth
