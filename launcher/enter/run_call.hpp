// What a user says to `berth run`: its plain command lines, understood without CLI11, which alone takes as long to set
// up as all the rest of a rank's way into its berth; and what that and the launcher's variables amount to.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "launcher/core/launch_context.hpp"
#include "launcher/core/request.hpp"

namespace berth {

using Options = std::vector<std::pair<std::string, std::string>>;  ///< names and values, in order, for apply_option()

struct RunArguments {
  std::string image;
  Options options;
  bool verbose = false;
  std::vector<std::string> command;
  bool operator==(const RunArguments&) const = default;
};

/// The words behind `berth run`, where each is what it seems to be: then this is what add_run_verb() makes of them.
/// nullopt: ask that, also for what is wrong.
std::optional<RunArguments> parse_plain_arguments(std::span<const std::string> words);

/// The plain words for `run`, whatever words it was said in.
std::vector<std::string> make_plain_words(const RunArguments& run);

/// All of it is the user's word, and none of it says who the user is.
struct RunCall {
  Options options;  ///< with those of variables (BERTH_POOL), image and verbosity
  Request request;
  std::vector<std::string> command;  ///< argv of the rank; never empty
  std::map<std::string, std::string> environment;
  LaunchContext context;
};

/// Throws Error{usage} that names the option, or what the launcher's variables contradict each other in.
RunCall make_run_call(const RunArguments& run, std::map<std::string, std::string> environment);

}  // namespace berth
