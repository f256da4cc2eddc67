#include "slurm/options.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <string_view>

#include "launcher/core/error.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

Request* collected = nullptr;  // SPANK's option callback carries no pointer of ours

int accept_option(int index, const char* value, int /*remote*/) {
  const OptionSpec& spec = option_specs()[static_cast<std::size_t>(index)];
  try {
    apply_option(*collected, spec.name, value != nullptr ? value : "");
    return 0;
  } catch (const Error& error) {
    slurm_spank_log("%s", error.render().c_str());
    return -1;
  }
}

}  // namespace

std::string slurm_variable(std::string_view name) {
  std::string option(name);
  std::ranges::replace(option, '-', '_');
  return fmt::format("SLURM_SPANK__SLURM_SPANK_OPTION_berth_rdma_{}", option);
}

SiteOptions parse_site_options(int argc, char** argv) {
  SiteOptions options;
  options.broker = BERTH_LIBEXECDIR "/berth-broker";
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string_view key = argument.substr(0, equals);
    std::string* target = key == "policy"   ? &options.policy
                          : key == "broker" ? &options.broker
                          : key == "state"  ? &options.state
                                            : nullptr;
    if (target == nullptr || equals == std::string_view::npos || argument[equals + 1] != '/')
      throw Error(ErrorCode::usage, fmt::format("'{}' in plugstack.conf is not understood", argument),
                  "known arguments are policy=, broker= and state=, each with an absolute path");
    *target = argument.substr(equals + 1);
  }
  return options;
}

void register_options(spank_t spank, Request& request) {
  collected = &request;
  static std::deque<std::string> texts;  // Slurm keeps the pointers
  int index = 0;
  for (const OptionSpec& spec : option_specs()) {
    const auto keep = [](std::string text) { return texts.emplace_back(std::move(text)).data(); };
    spank_option option{};
    option.name = keep(fmt::format("rdma-{}", spec.name));
    option.arginfo = spec.argument.empty() ? nullptr : keep(std::string(spec.argument));
    option.usage = keep(std::string(spec.help));
    // As of getopt_long(3): 2 is an argument that may be left out.
    option.has_arg = spec.argument.empty() ? 0 : spec.argument_is_optional ? 2 : 1;
    option.val = index++;
    option.cb = accept_option;
    if (const spank_err_t error = spank_option_register(spank, &option); error != ESPANK_SUCCESS)
      throw Error(ErrorCode::internal, fmt::format("cannot register --{} with Slurm", option.name),
                  spank_strerror(error));
  }
}

void adopt_environment_options() {
  for (const OptionSpec& spec : option_specs()) {
    const char* value = std::getenv(option_variable(spec.name).c_str());
    if (value == nullptr || *value == '\0') continue;
    if (spec.argument.empty() && std::string_view(value) == "0") continue;
    setenv(slurm_variable(spec.name).c_str(), value, 0);
  }
}

bool container_is_asked_for() {
  try {
    for (const std::string& argument : read_command_line(getpid()))
      if (argument.starts_with("--rdma-c")) return argument != "--rdma-container=";
  } catch (const Error&) {  // no /proc: then the variable must do
  }
  const char* value = std::getenv(slurm_variable("container").c_str());
  return value != nullptr && *value != '\0';
}

}  // namespace berth
