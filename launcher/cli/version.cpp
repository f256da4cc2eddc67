#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/cli/verbs.hpp"
#include "launcher/core/plan_json.hpp"

namespace berth {

void add_version_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("version", "Say which version this is.");
  verb->callback([&options] {
    if (options.json) {
      print_json(nlohmann::json{{"version", BERTH_VERSION}, {"json_version", kJsonVersion}}.dump(2));
    } else {
      fmt::print("berth {}\n", BERTH_VERSION);
    }
  });
}

}  // namespace berth
