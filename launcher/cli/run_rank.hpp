// What `berth run` does once it is understood, and the plain ones of its command lines. Without CLI11, which alone
// takes as long to set up as all the rest of a rank's way to berth-enter.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "launcher/core/run_record.hpp"

namespace berth {

struct RunArguments {
  std::string image;
  std::vector<std::pair<std::string, std::string>> options;  ///< for apply_option()
  bool verbose = false;
  std::vector<std::string> command;
  bool operator==(const RunArguments&) const = default;
};

/// The words behind `berth run`, where each is what it seems to be: then this is what add_run_verb() makes of them.
/// nullopt: ask that, also for what is wrong.
std::optional<RunArguments> parse_plain_arguments(std::span<const std::string> words);

/// What makes the calling process a rank where berth-enter has no rights, for the reason given; returns only if that
/// fails: the exit code.
using RunWithoutHelper = std::function<int(const RunRecord&, const std::string& obstacle)>;

/// Makes the calling process a rank. Returns only where that failed, and was said: the exit code. Throws Error.
int run_rank(const RunArguments& run, const RunWithoutHelper& run_without_helper);

}  // namespace berth
