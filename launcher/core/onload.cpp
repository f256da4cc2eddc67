#include "launcher/core/onload.hpp"

#include <fmt/format.h>

#include "launcher/core/error.hpp"

namespace berth {

namespace {

/// The rest of the line that begins with `key`; "" if there is none.
std::string value_of(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(key)) continue;
    const std::string_view value = line.substr(key.size());
    const std::size_t end = value.find_last_not_of(' ');
    return end == std::string_view::npos ? std::string{} : std::string(value.substr(0, end + 1));
  }
  return {};
}

constexpr const char* kReinstall =
    "install library and module from one build, then reload the module (onload_tool reload); `onload --version` shows "
    "both";

}  // namespace

OnloadModule parse_onload_module(std::string_view text) {
  OnloadModule module{value_of(text, "onload_product: "), value_of(text, "onload_version: "),
                      value_of(text, "uk_intf_ver: ")};
  if (module.product.empty() || module.version.empty() || module.interface.empty())
    throw Error(ErrorCode::host, "cannot tell the build of the Onload kernel module",
                "/proc/driver/onload/version lacks onload_product, onload_version or uk_intf_ver",
                "use a release of Onload that says them");
  return module;
}

std::string find_onload_version(std::string_view library) {
  // One string: product and version, copyright, and then this.
  const std::size_t built = library.find("\nBuilt: ");
  if (built == std::string_view::npos) return {};
  const std::size_t before = library.rfind('\0', built);
  const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
  const std::string_view line = library.substr(begin, library.find('\n', begin) - begin);
  const std::size_t end = line.find_last_not_of(' ');
  return end == std::string_view::npos ? std::string{} : std::string(line.substr(0, end + 1));
}

void check_onload_match(const OnloadModule& module, std::string_view library, const std::string& library_path) {
  const std::string version = find_onload_version(library);
  if (version.empty())
    throw Error(ErrorCode::host, "cannot use Onload", fmt::format("'{}' is no library of Onload", library_path),
                "correct `library` in [onload] of the policy");
  const std::string wanted = fmt::format("{} {}", module.product, module.version);
  if (version != wanted)
    throw Error(ErrorCode::host, "cannot use Onload: library and kernel module are of different versions",
                fmt::format("'{}' is {}, the module {}", library_path, version, wanted), kReinstall);
  if (library.find(module.interface + '\0') == std::string_view::npos)
    throw Error(ErrorCode::host, "cannot use Onload: library and kernel module are of different builds",
                fmt::format("both are {}, but the module's interface is {}, and '{}' was built for another", wanted,
                            module.interface, library_path),
                kReinstall);
}

void add_onload_environment(RankEnvironment& environment, const std::string& library, const std::string& search_path,
                            const std::vector<EnvironmentChange>& settings) {
  environment.defaults.insert(environment.defaults.end(), settings.begin(), settings.end());
  environment.site.push_back({EnvironmentChange::Action::prepend, "LD_PRELOAD", library});
  if (!search_path.empty())
    environment.site.push_back({EnvironmentChange::Action::prepend, "LD_LIBRARY_PATH", search_path});
}

}  // namespace berth
