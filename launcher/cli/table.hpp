// Columns for people.
#pragma once

#include <string>
#include <vector>

namespace berth {

/// Rows of cells under a heading; the last column may be as wide as it likes.
class Table {
 public:
  explicit Table(std::vector<std::string> heading);
  /// `cells` has as many entries as the heading; empty cells appear as "-".
  void add(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const { return rows_.size() == 1; }
  /// Lines with a newline each; control characters in cells are escaped.
  [[nodiscard]] std::string render() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace berth
