#include "launcher/broker/onload.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "launcher/core/char_devices.hpp"
#include "launcher/core/error.hpp"
#include "launcher/core/onload.hpp"
#include "launcher/core/onload_profile.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

namespace {

constexpr std::size_t kLargestLibrary = std::size_t{64} << 20;
constexpr const char* kModuleVersion = "/proc/driver/onload/version";
constexpr const char* kWhat = "cannot use Onload";

/// Where distributions have it.
constexpr std::array kLibraries = {"/usr/lib64/libonload.so", "/usr/lib/x86_64-linux-gnu/libonload.so",
                                   "/usr/lib/aarch64-linux-gnu/libonload.so", "/usr/lib/libonload.so"};

bool is_file(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

/// Empty: there is none.
std::string find_library(const OnloadPolicy& policy) {
  if (!policy.library.empty()) return is_file(policy.library) ? policy.library : std::string{};
  const auto found = std::ranges::find_if(kLibraries, is_file);
  return found == kLibraries.end() ? std::string{} : *found;
}

std::string describe_libraries(const OnloadPolicy& policy) {
  return policy.library.empty() ? fmt::format("{}", fmt::join(kLibraries, ", ")) : policy.library;
}

/// With the owner and mode of the host's own node, which say who may use Onload. The number is the driver's: a file of
/// another number is a leftover, of a module that was loaded before, and may be anybody's device by now.
DeviceNode read_node(const std::string& name, unsigned number) {
  const std::string path = "/dev/" + name;
  struct stat status {};
  const bool is_there = lstat(path.c_str(), &status) == 0 && S_ISCHR(status.st_mode);
  if (!is_there)
    throw Error(ErrorCode::host, kWhat, fmt::format("there is no device '{}', which would say who may use it", path),
                fmt::format("udevadm trigger --action=add --subsystem-match={}; else reload the module: onload_tool "
                            "reload",
                            name));
  if (status.st_rdev != makedev(number, 0))
    throw Error(ErrorCode::host, kWhat,
                fmt::format("'{}' is device {}:{}, and the driver of that name has {}:0", path, major(status.st_rdev),
                            minor(status.st_rdev), number),
                "remove the file, then reload the module (onload_tool reload), which makes it anew");
  return {name, status.st_mode & 07777U, status.st_uid, status.st_gid, status.st_rdev};
}

std::vector<DeviceNode> read_nodes(const std::vector<CharMajor>& majors) {
  std::vector<DeviceNode> nodes;
  for (const std::string_view name : kOnloadDevices)
    nodes.push_back(read_node(std::string(name), find_char_major(majors, name).value()));
  if (const auto major = find_char_major(majors, kOnloadAffinityDevice))
    nodes.push_back(read_node(std::string(kOnloadAffinityDevice), *major));
  return nodes;
}

void require_installed(const OnloadPolicy& policy, const std::vector<CharMajor>& majors, const std::string& library) {
  std::vector<std::string_view> missing;
  for (const std::string_view name : kOnloadDevices)
    if (!find_char_major(majors, name)) missing.push_back(name);
  const bool has_module = missing.size() < kOnloadDevices.size();
  if (!has_module && library.empty())
    throw Error(ErrorCode::host, kWhat,
                fmt::format("this node has neither its kernel module nor its library ({})", describe_libraries(policy)),
                "install OpenOnload on the node, or start without --rdma-onload");
  if (!missing.empty())
    throw Error(ErrorCode::host, kWhat,
                fmt::format("the library '{}' is there, but its kernel module is {}: /proc/devices has no {}", library,
                            has_module ? "not complete" : "not loaded", fmt::join(missing, ", ")),
                "load it: modprobe onload (onload_tool reload)");
  if (library.empty())
    throw Error(ErrorCode::host, kWhat,
                fmt::format("its kernel module is loaded, but there is no library: {}", describe_libraries(policy)),
                "install the user part of the same build, or correct `library` in [onload] of the policy");
  if (!is_file(policy.script))
    throw Error(ErrorCode::host, kWhat, fmt::format("there is no command '{}'", policy.script),
                "install the user part of Onload, or correct `script` in [onload] of the policy");
}

std::optional<OnloadProfile> read_profile(const OnloadPolicy& policy, const std::string& name, bool imported) {
  const std::string& directory = policy.profiles;
  for (const char* suffix : {".opf", ".opf-fragment"}) {
    const std::string path = fmt::format("{}/{}{}", directory, name, suffix);
    if (is_pool_name(name) && is_file(path)) return OnloadProfile{path, read_file(AT_FDCWD, path)};
    if (!imported) break;
  }
  if (imported) return std::nullopt;
  const auto known = list_onload_profiles(policy);
  const auto nearest = nearest_word(name, known);
  throw Error(
      ErrorCode::usage, fmt::format("no Onload profile '{}'", name),
      known.empty() ? fmt::format("there are none in '{}'", directory)
                    : fmt::format("those in '{}' are {}", directory, fmt::join(known, ", ")),
      nearest ? fmt::format("did you mean '{}'?", *nearest) : "use one of these, or --rdma-onload without a profile");
}

/// The library and its extensions: all of Onload that a program may be linked with.
std::vector<MountRequest> make_mounts(const OnloadPolicy& policy, const std::string& library) {
  std::vector<MountRequest> mounts;
  const auto directory = std::filesystem::path(library).parent_path();
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.starts_with("libonload_ext.so") && is_file(entry->path()))
      mounts.push_back({entry->path(), fmt::format("{}/{}", kOnloadLibraryDirectory, name), true});
  }
  std::ranges::sort(mounts, {}, &MountRequest::target);
  mounts.push_back({library, fmt::format("{}/libonload.so", kOnloadLibraryDirectory), true});
  mounts.push_back({policy.script, std::string(kOnloadScript), true});
  if (std::filesystem::is_directory(policy.profiles, error))
    mounts.push_back({policy.profiles, std::string(kOnloadProfileDirectory), true});
  return mounts;
}

}  // namespace

Onload read_onload(const Policy& policy, const std::vector<std::string>& profiles, bool in_image) {
  if (!policy.onload.enabled)
    throw Error(ErrorCode::policy, kWhat, fmt::format("{} does not allow it", policy.source),
                "ask the administrator for a table [onload] there, or start without --rdma-onload");
  const std::string library = find_library(policy.onload);
  const auto majors = parse_char_majors(read_file(AT_FDCWD, "/proc/devices"));
  require_installed(policy.onload, majors, library);
  Onload onload;
  onload.devices = read_nodes(majors);
  if (access(kModuleVersion, R_OK) != 0)
    throw Error(ErrorCode::host, kWhat, fmt::format("its kernel module has no {}", kModuleVersion),
                "reload the module: onload_tool reload");
  const OnloadModule module = parse_onload_module(read_file(AT_FDCWD, kModuleVersion));
  check_onload_match(module, read_file(AT_FDCWD, library, kLargestLibrary), library);
  onload.version = fmt::format("{} {}", module.product, module.version);
  onload.settings = collect_onload_settings(
      profiles, [&](const std::string& name, bool imported) { return read_profile(policy.onload, name, imported); });
  onload.library = library;
  if (!in_image) return onload;
  onload.mounts = make_mounts(policy.onload, library);
  onload.library = fmt::format("{}/libonload.so", kOnloadLibraryDirectory);
  onload.search_path = kOnloadLibraryDirectory;
  return onload;
}

void grant_onload(Grant& grant, const Onload& onload, const OnloadPolicy& policy) {
  add_onload_environment(grant.environment, onload.library, onload.search_path, onload.settings);
  if (!policy.self_test) return;
  for (const DeviceNode& device :
       onload.devices)  // the others are for programs of ef_vi: the site may keep them from users
    if (device.path.starts_with("onload")) grant.tested_devices.push_back(device.path);
}

std::vector<std::string> list_onload_profiles(const OnloadPolicy& policy) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(policy.profiles, error), end; !error && entry != end;
       entry.increment(error))
    if (entry->path().extension() == ".opf") names.push_back(entry->path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace berth
