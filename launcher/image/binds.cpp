#include "launcher/image/binds.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>

#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr std::size_t kUserMountLimit = 256;
constexpr std::uint64_t kHarmless = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

struct Source {
  UniqueFd fd;
  bool is_directory = true;
};

// O_DIRECTORY first: unlike a bare O_PATH it makes autofs mount what it promises.
std::optional<Source> open_source(const std::string& path) {
  Source source;
  source.fd.reset(open_host_path(path, O_PATH | O_DIRECTORY));
  if (source.fd) return source;
  if (errno != ENOTDIR) return std::nullopt;
  source.fd.reset(open_host_path(path, O_PATH));
  source.is_directory = false;
  if (!source.fd) return std::nullopt;
  return source;
}

std::optional<Source> open_source_as(const Credentials& user, const std::string& path) {
  const FileAccessAs access(user);
  auto source = open_source(path);
  if (source && faccessat(source->fd.get(), "", R_OK, AT_EMPTY_PATH | AT_EACCESS) != 0) return std::nullopt;
  return source;
}

class Collector {
 public:
  explicit Collector(const RootfsRequest& request) : request_(request), policy_(*request.policy) {}

  std::vector<Bind> collect() && {
    for (const char* shared : {"/tmp", "/var/tmp"})
      if (const auto source = open_source(shared)) add(shared, shared, *source, false);
    for (const MountRequest& mount : policy_.always) add_site_mount(mount);
    if (policy_.home && request_.home.starts_with('/')) add_own(request_.home);
    if (policy_.working_directory && request_.working_directory.starts_with('/')) add_own(request_.working_directory);
    for (const std::string& directory : request_.runtime_directories)
      if (const auto source = is_visible(directory) ? std::nullopt : open_source_as(request_.user, directory))
        add(directory, directory, *source, false);
    for (const std::string& directory : request_.session_directories) add_session_directory(directory);
    add_user_mounts();
    return std::move(binds_);
  }

 private:
  void add(const std::string& source_path, const std::string& target, const Source& source, bool read_only) {
    try {
      binds_.push_back({target, copy_from_host(source.fd.get(), kHarmless | (read_only ? MOUNT_ATTR_RDONLY : 0U)),
                        source.is_directory});
    } catch (Error& error) {
      error.what_text = fmt::format("cannot mount '{}'", source_path);
      throw;
    }
    if (source_path == target) seen_as_on_host_.push_back(target);
  }

  // Whether an earlier mount shows `path` in the container under the same name already.
  bool is_visible(const std::string& path) const { return is_below(path, seen_as_on_host_); }

  void add_site_mount(const MountRequest& mount) {
    auto source = open_source(mount.source);
    // A network file system may trust the user more than root.
    if (!source && errno == EACCES) source = open_source_as(request_.user, mount.source);
    if (!source)
      throw system_error(errno, fmt::format("cannot mount '{}', which the policy mounts for everybody", mount.source),
                         "open", "create it on this node, or take it out of [mounts] always of the policy");
    add(mount.source, mount.target, *source, mount.read_only);
  }

  // Home and working directory: a convenience. What does not exist, or would hide the image's own system, is left out.
  void add_own(const std::string& path) {
    static const std::vector<std::string> system = {"/bin",   "/boot", "/dev",  "/etc", "/lib", "/lib32",
                                                    "/lib64", "/proc", "/sbin", "/sys", "/usr"};
    for (const char* top : {"/", "/opt", "/run", "/var"})
      if (path == top) return;
    if (is_below(path, system) || is_visible(path)) return;
    if (const auto source = open_source_as(request_.user, path); source && source->is_directory)
      add(path, path, *source, false);
  }

  // The user could name any directory; their own shows nothing that the policy could want to keep from them.
  void add_session_directory(const std::string& path) {
    if (is_visible(path)) return;
    const auto source = open_source_as(request_.user, path);
    struct stat status {};
    if (source && source->is_directory && fstat(source->fd.get(), &status) == 0 && status.st_uid == request_.user.uid)
      add(path, path, *source, false);
  }

  void add_user_mounts() {
    if (request_.mounts.empty()) return;
    if (request_.mounts.size() > kUserMountLimit)
      throw Error(ErrorCode::usage, "cannot mount that much",
                  fmt::format("{} mounts were asked for, {} are allowed", request_.mounts.size(), kUserMountLimit),
                  "mount a common parent directory");
    const std::vector<std::string> allowed = real_allowed_paths();
    for (const MountRequest& mount : request_.mounts) add_user_mount(mount, allowed);
  }

  std::vector<std::string> real_allowed_paths() const {
    std::vector<std::string> result;
    for (const std::string& path : policy_.allowed) {
      const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
      result.emplace_back(real ? real.get() : path);
    }
    return result;
  }

  void add_user_mount(const MountRequest& mount, const std::vector<std::string>& allowed) {
    const std::string what = fmt::format("cannot mount '{}' at '{}'", mount.source, mount.target);
    if (!mount.source.starts_with('/') || !mount.target.starts_with('/'))
      throw Error(ErrorCode::usage, what, "both paths must be absolute");
    if ((mount.target + '/').find("/../") != std::string::npos)
      throw Error(ErrorCode::usage, what, "the target holds '..'", "write the path out");
    if (is_reserved_target(mount.target))
      throw Error(ErrorCode::usage, what, "Berth itself provides what is there", "choose another target");
    const auto source = open_source_as(request_.user, mount.source);
    if (!source)
      throw Error(ErrorCode::usage, what, fmt::format("open the source as the user: {}", strerrordesc_np(errno)),
                  "check that it exists on this node and that you may read it");
    const mode_t mode = read_status(source->fd.get(), mount.source).st_mode;
    if (!S_ISDIR(mode) && !S_ISREG(mode))
      throw Error(ErrorCode::policy, what, "the source is neither a directory nor a regular file");
    if (const std::string real = read_path(source->fd.get()); !is_below(real, allowed))
      throw Error(ErrorCode::policy, what,
                  policy_.allowed.empty() ? std::string("the policy allows no mounts by users")
                                          : fmt::format("'{}' is outside the allowed paths: '{}'", real,
                                                        fmt::join(policy_.allowed, "', '")),
                  "ask the administrator to list it in [mounts] allowed of the policy");
    add(mount.source, mount.target, *source, mount.read_only);
  }

  const RootfsRequest& request_;
  const MountPolicy& policy_;
  std::vector<Bind> binds_;
  std::vector<std::string> seen_as_on_host_;
};

}  // namespace

std::vector<Bind> collect_binds(const RootfsRequest& request) { return Collector(request).collect(); }

UniqueFd copy_from_host(int fd, std::uint64_t attributes) {
  UniqueFd mount = clone_mount(fd, true);
  set_mount_attributes(mount.get(), attributes, MS_SLAVE, true);
  return mount;
}

bool is_reserved_target(const std::string& path) {
  static const std::vector<std::string> reserved = {"/dev", "/proc", "/sys"};
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return true;
  const std::string trimmed = path.substr(0, end + 1);
  return trimmed == "/etc" || is_below(trimmed, reserved);
}

}  // namespace berth
