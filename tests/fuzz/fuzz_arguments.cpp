// What users say to `berth run`, which may be setuid root: one word a line, "$NAME=VALUE" for variables. What is plain
// has an image and a command, and says the same in the words that Berth itself would choose.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/error.hpp"
#include "launcher/enter/rank_process.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> words, variables;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with('$'))
      variables.emplace_back(line.substr(1));
    else
      words.emplace_back(line);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  const auto environment = berth::parse_environment(variables);
  const auto run = berth::parse_plain_arguments(words);
  if (!run) return 0;
  require(!run->image.empty() && !run->command.empty());
  require(berth::parse_plain_arguments(berth::make_plain_words(*run)) == run);
  try {
    const berth::RunCall call = berth::make_run_call(*run, environment);
    require(call.command == run->command && call.request.image == run->image);
    require(call.context.local_rank < call.context.local_size);
  } catch (const berth::Error& error) {
    require(error.code == berth::ErrorCode::usage);
  }
  return 0;
}
