#include <fmt/format.h>

#include "launcher/cli/options.hpp"

namespace berth {

void add_request_options(CLI::App& verb, const OptionSink& sink) {
  for (const OptionSpec& spec : option_specs()) {
    const std::string name(spec.name);
    if (name == "verbose") continue;
    // The second is the name that srun knows.
    const std::string flags = fmt::format("--{0},--rdma-{0}", name);
    if (spec.argument.empty()) {
      verb.add_flag_callback(
          flags, [sink, name] { sink(name, "1"); }, std::string(spec.help));
      continue;
    }
    if (spec.argument_is_optional) {
      // Only what is behind a '=' is the argument: the next word may be an image or a command.
      const auto take = [sink, name](const CLI::results_t& values) {
        // Without one, CLI11 makes up "true", or the default.
        for (const std::string& value : values) sink(name, value == "true" ? "1" : value);
        return true;
      };
      verb.add_option(flags, take, std::string(spec.help))
          ->expected(0)
          ->default_str("1")
          ->option_text(fmt::format("[={}]", spec.argument));
      continue;
    }
    verb.add_option_function<std::vector<std::string>>(
            flags,
            [sink, name](const std::vector<std::string>& values) {
              for (const std::string& value : values) sink(name, value);
            },
            std::string(spec.help))
        ->type_name(std::string(spec.argument))
        ->type_size(1)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
  }
}

}  // namespace berth
