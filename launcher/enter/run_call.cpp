#include "launcher/enter/run_call.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace berth {

namespace {

/// Takes the option at `at`, and moves `at` to the last word that belongs to it. false: it is not plain.
bool take_option(RunArguments& run, std::span<const std::string> words, std::size_t& at) {
  const std::string_view word = words[at];
  if (word == "-v" || word == "--verbose") return run.verbose = true;
  const std::size_t equals = word.find('=');
  std::string_view name = word.substr(0, equals);
  if (!name.starts_with("--")) return false;
  name.remove_prefix(name.starts_with("--rdma-") ? 7 : 2);
  const auto& specs = option_specs();
  const auto spec = std::ranges::find(specs, name, &OptionSpec::name);
  if (spec == specs.end() || name == "verbose" || name == "container") return false;
  std::string value = "1";
  if (equals != std::string_view::npos) {
    value = word.substr(equals + 1);
    if (value.empty() || spec->argument.empty() || (spec->argument_is_optional && value == "true")) return false;
  } else if (!spec->argument.empty() && !spec->argument_is_optional) {
    if (++at == words.size() || words[at].empty() || words[at].starts_with('-')) return false;
    value = words[at];
  }
  run.options.emplace_back(name, std::move(value));
  return true;
}

/// BERTH_POOL and the like stand for options that were not given, as with srun.
Options merge_environment(const Options& given, const std::map<std::string, std::string>& environment) {
  Options merged;
  for (const OptionSpec& spec : option_specs()) {
    const auto same_name = [&](const auto& option) { return option.first == spec.name; };
    const auto variable = environment.find(option_variable(spec.name));
    if (spec.name == "container" || variable == environment.end() || variable->second.empty()) continue;
    if (spec.argument.empty() && variable->second == "0") continue;
    if (std::none_of(given.begin(), given.end(), same_name)) merged.emplace_back(spec.name, variable->second);
  }
  merged.insert(merged.end(), given.begin(), given.end());
  return merged;
}

}  // namespace

std::optional<RunArguments> parse_plain_arguments(std::span<const std::string> words) {
  RunArguments run;
  for (std::size_t at = 0; at < words.size(); ++at) {
    const bool dashes = words[at] == "--";
    if (words[at].starts_with('-') && !dashes) {
      if (!take_option(run, words, at)) return std::nullopt;
    } else if (!run.image.empty()) {
      run.command.assign(words.begin() + static_cast<std::ptrdiff_t>(dashes ? at + 1 : at), words.end());
      break;
    } else if (dashes || words[at].empty()) {
      return std::nullopt;
    } else {
      run.image = words[at];
    }
  }
  if (run.command.empty()) return std::nullopt;
  return run;
}

std::vector<std::string> make_plain_words(const RunArguments& run) {
  std::vector<std::string> words;
  for (const auto& [name, value] : run.options) {
    const auto& specs = option_specs();
    const auto spec = std::ranges::find(specs, name, &OptionSpec::name);
    const bool is_flag = spec->argument.empty() || (spec->argument_is_optional && (value.empty() || value == "1"));
    words.push_back("--" + name + (is_flag ? "" : "=" + value));
  }
  if (run.verbose) words.emplace_back("--verbose");
  words.push_back(run.image);
  words.emplace_back("--");
  words.insert(words.end(), run.command.begin(), run.command.end());
  return words;
}

RunCall make_run_call(const RunArguments& run, std::map<std::string, std::string> environment) {
  RunCall call;
  call.options = merge_environment(run.options, environment);
  call.command = run.command;
  call.environment = std::move(environment);
  call.options.emplace_back("container", run.image);
  if (run.verbose) call.options.emplace_back("verbose", "1");
  for (const auto& [name, value] : call.options) apply_option(call.request, name, value);
  call.context = parse_launch_context(call.environment);
  return call;
}

}  // namespace berth
