// OpenOnload: what its library and its kernel module say of themselves, and what a rank's environment must hold. Pure.
// Sources: Onload's scripts/onload, src/driver/linux_onload/linux_stats.c and src/include/onload/version_check.h.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/environment.hpp"

namespace berth {

/// Char devices of Onload and of ef_vi below it. A driver of each name has minor 0 alone.
inline constexpr std::array<std::string_view, 3> kOnloadDevices = {"onload", "onload_epoll", "sfc_char"};
/// Of a driver that newer releases do not have any more.
inline constexpr std::string_view kOnloadAffinityDevice = "sfc_affinity";

/// Where a container finds the host's libraries: the place of AMD's own container images, so that theirs fit.
inline constexpr std::string_view kOnloadLibraryDirectory = "/opt/onload/usr/lib64";
/// Where a container finds the host's `onload` command and its profiles, as that script expects them.
inline constexpr std::string_view kOnloadScript = "/usr/bin/onload";
inline constexpr std::string_view kOnloadProfileDirectory = "/usr/libexec/onload/profiles";

/// What the kernel module was built from.
struct OnloadModule {
  std::string product;    ///< "Onload", "OpenOnload", "EnterpriseOnload"
  std::string version;    ///< "9.0.2.140"
  std::string interface;  ///< checksum of the headers that module and library share, 32 hex digits
  bool operator==(const OnloadModule&) const = default;
};
/// `text` of /proc/driver/onload/version. Throws Error{host} if it does not say all three.
OnloadModule parse_onload_module(std::string_view text);

/// "Onload 9.0.2.140", as the library prints it when it is run as a program; "" if `library` (its bytes) has no such
/// text.
std::string find_onload_version(std::string_view library);

/// Throws Error{host}, which names both builds, unless library and module are of one build: of one version, and with
/// the same interface. The module would refuse anything else, but only when the program makes its first socket.
void check_onload_match(const OnloadModule& module, std::string_view library, const std::string& library_path);

/// Has a rank load `library`, with `settings` (of profiles) as defaults: what the job sets itself wins. Programs find
/// further libraries in `search_path` ("": nowhere else than ever). Last of the site's changes, so that a site's own
/// LD_PRELOAD stays, and only the request can take it away.
void add_onload_environment(RankEnvironment& environment, const std::string& library, const std::string& search_path,
                            const std::vector<EnvironmentChange>& settings);

}  // namespace berth
