// What fuzzing starts from: a few good texts for each target.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth::fuzzing {

/// The names of all targets: "arguments", "capture", …
const std::vector<std::string_view>& targets();
std::vector<std::string> make_seeds(std::string_view target);

}  // namespace berth::fuzzing
