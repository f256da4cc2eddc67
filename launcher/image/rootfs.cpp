#include "launcher/image/rootfs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "launcher/image/binds.hpp"
#include "launcher/image/child.hpp"
#include "launcher/image/device_tree.hpp"
#include "launcher/image/image_root.hpp"
#include "launcher/image/user_files.hpp"
#include "launcher/system/mounts.hpp"

namespace berth {

namespace {

constexpr std::chrono::seconds kBuildPatience{120};  // several slow automounts
constexpr std::uint64_t kKernelTree = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
constexpr std::uint64_t kPlainFile = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

UniqueFd open_place(int dir, const std::string& path, int flags = 0) {
  UniqueFd fd(openat(dir, path.c_str(), O_PATH | O_CLOEXEC | flags));
  if (!fd) throw system_error(errno, fmt::format("cannot open '{}'", path), "open");
  return fd;
}

std::string read_optional_file(const std::string& path) {
  try {
    return read_file(AT_FDCWD, path);
  } catch (const Error&) {
    return {};
  }
}

// A new proc does not inherit what the host's hides from users.
std::vector<MountOption> host_proc_options() {
  std::vector<MountOption> options{{"source", "proc"}};
  for (const MountEntry& entry : parse_mountinfo(read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 24))) {
    if (entry.point != "/proc" || entry.type != "proc") continue;
    for (std::size_t at = 0; at < entry.super_options.size();) {
      const std::size_t end = std::min(entry.super_options.find(',', at), entry.super_options.size());
      const std::string option = entry.super_options.substr(at, end - at);
      for (const char* key : {"hidepid", "gid"})
        if (option.starts_with(std::string(key) + '=')) options.emplace_back(key, option.substr(option.find('=') + 1));
      at = end + 1;
    }
  }
  return options;
}

struct GeneratedFile {
  std::string name;  // in /etc
  std::string text;
  std::string target = {};  // where the image's links lead from there
};

// Builds the tree in the child, and changes in the parent's memory nothing but itself. The new root is stacked on the
// host's "/": a process keeps seeing the host by paths until pivot_root, and needs no directory of the host to mount
// anything on.
class RootfsBuilder {
 public:
  RootfsBuilder(const RootfsRequest& request, int image_mount) : request_(request), image_(image_mount) {}

  UniqueFd build() {
    umask(0);
    if (unshare(CLONE_NEWNS) != 0) throw system_error(errno, "cannot make a mount namespace", "unshare");
    make_namespace_slave();
    read_host();
    host_root_ = open_place(AT_FDCWD, "/");
    staging_ = create_mount("tmpfs", {{"source", "berth"}, {"mode", "755"}, {"size", "16m"}},
                            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    stack(staging_.get());
    stack(image_);
    check_image_layout(image_, request_.image->path);
    generate_files();
    provide_missing();
    attach_kernel_trees();
    attach_binds();
    attach_files();
    UniqueFd name_space(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    if (!name_space) throw system_error(errno, "cannot open the new mount namespace", "open /proc/self/ns/mnt");
    pivot_to(root_, stacked_ - 1);
    return name_space;
  }

 private:
  void read_host() {
    binds_ = collect_binds(request_);
    using Place = std::pair<const char*, std::uint64_t>;
    const std::vector<Place> places =
        request_.host_trees
            ? std::vector{Place{"/proc", kKernelTree}, Place{"/sys", kKernelTree | MOUNT_ATTR_RDONLY},
                          Place{"/dev", MOUNT_ATTR_NOSUID}}
            : std::vector{Place{"/dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC},
                          Place{"/dev/shm", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV}, Place{"/dev/mqueue", kKernelTree}};
    for (const auto& [path, attributes] : places)
      if (const UniqueFd place(open_host_path(path, O_PATH | O_DIRECTORY)); place)
        kernel_binds_.push_back({path, copy_from_host(place.get(), attributes), true});
    if (!request_.host_trees) {
      nodes_ = read_device_nodes(request_.policy->devices);
      for (const DeviceNode& device : request_.devices) {
        std::erase_if(nodes_, [&](const DeviceNode& node) { return node.path == device.path; });
        nodes_.push_back(device);
      }
      proc_options_ = host_proc_options();
    }
    for (const char* name : {"hosts", "resolv.conf", "hostname"})
      if (std::string text = read_optional_file(std::string("/etc/") + name); !text.empty())
        files_.push_back({name, std::move(text)});
    host_group_ = read_optional_file("/etc/group");
  }

  void generate_files() {
    files_.push_back({"passwd", add_user_line(read_image_file(image_, "/etc/passwd", request_.user), request_.user_name,
                                              request_.user, request_.home)});
    files_.push_back({"group", add_group_lines(read_image_file(image_, "/etc/group", request_.user), host_group_,
                                               request_.user_name, request_.user)});
  }

  // Every target that the image lacks goes into a skeleton that an overlay shows beside the image.
  void provide_missing() {
    for (const char* directory : {"skeleton", "files"})
      if (mkdirat(staging_.get(), directory, 0755) != 0) throw system_error(errno, "cannot prepare the root", "mkdir");
    const UniqueFd skeleton = open_place(staging_.get(), "skeleton", O_DIRECTORY);
    bool anything_missing = false;
    const auto provide = [&](const std::string& target, bool is_directory) {
      ImagePath path = resolve_in_image(image_, target);
      if (!path.exists) {
        anything_missing = true;
        path.is_directory = is_directory;
        add_to_skeleton(skeleton.get(), image_, path);
      }
      return path;
    };
    for (const char* directory : {"/proc", "/sys", "/dev"}) provide(directory, true);
    for (GeneratedFile& file : files_) file.target = provide("/etc/" + file.name, false).path;
    // An image that sends one of them to /dev/null does not want it.
    std::erase_if(files_, [](const GeneratedFile& file) { return is_reserved_target(file.target); });
    for (Bind& bind : binds_) {
      const ImagePath path = provide(bind.target, bind.is_directory);
      if (is_reserved_target(path.path))
        throw Error(ErrorCode::image, fmt::format("cannot mount anything at '{}'", bind.target),
                    fmt::format("a symlink in the image leads from there to '{}'", path.path),
                    "mount it elsewhere, or remove the symlink from the image");
      if (path.is_directory != bind.is_directory)
        throw Error(ErrorCode::image, fmt::format("cannot mount anything at '{}'", bind.target),
                    bind.is_directory ? "what is to be mounted is a directory, the image has a file there"
                                      : "what is to be mounted is a file, the image has a directory there",
                    "choose another target");
      bind.target = path.path;
    }
    if (!anything_missing) return;
    const UniqueFd image_root = open_place(image_, ".", O_DIRECTORY);
    copy_owner_and_mode(read_status(image_root.get(), "/"), staging_.get(), "skeleton");
    overlay_ = overlay_skeleton(skeleton.get(), image_);
    stack(overlay_.get());
    // Looking up a file takes longer in an overlay than in the file system below it, which programs that open many
    // notice.
    for (const std::string& name : find_untouched_directories(skeleton.get(), image_)) {
      if (is_reserved_target('/' + name)) continue;
      const UniqueFd directory(open_in_root_without_links(image_, name, O_PATH | O_DIRECTORY));
      if (directory) attach_at(clone_mount(directory.get(), request_.host_trees).get(), '/' + name);
    }
  }

  // On top of "/" and of what is there already; a mount covered so can still be reached by its descriptor.
  void stack(int mount) {
    attach_mount(mount, host_root_.get());
    root_ = mount;
    ++stacked_;
  }

  // Targets have been resolved: a link that is found now lies in a directory of the host (or was put there meanwhile),
  // and could lead the mount over /proc or "/".
  void attach_at(int mount, const std::string& target) {
    const UniqueFd place(open_in_root_without_links(root_, target, O_PATH));
    if (!place) {
      const int error_number = errno;
      throw system_error(error_number, fmt::format("cannot mount anything at '{}'", target), "open",
                         error_number == ENOENT
                             ? "it lies in a directory that is mounted from the host: create it there"
                         : error_number == ELOOP ? "a symlink lies on the way: give the path that it leads to"
                                                 : "");
    }
    try {
      attach_mount(mount, place.get());
    } catch (Error& error) {
      error.what_text = fmt::format("cannot mount anything at '{}'", target);
      throw;
    }
  }

  void attach_kernel_trees() {
    if (!request_.host_trees) {
      attach_at(create_mount("proc", proc_options_, kKernelTree).get(), "/proc");
      if (request_.shared) attach_at(create_sysfs().get(), "/sys");
      const auto is_mqueue = [](const Bind& bind) { return bind.target == "/dev/mqueue"; };
      const bool with_mqueue = std::any_of(kernel_binds_.begin(), kernel_binds_.end(), is_mqueue);
      attach_at(create_device_tree(nodes_, with_mqueue).get(), "/dev");
    }
    for (const Bind& bind : kernel_binds_) attach_at(bind.mount.get(), bind.target);
  }

  void attach_binds() {
    // Parents before what lies in them; among equals the order of collection, so that the user's own come last.
    const auto depth = [](const Bind& bind) { return std::count(bind.target.begin(), bind.target.end(), '/'); };
    std::stable_sort(binds_.begin(), binds_.end(), [&](const Bind& a, const Bind& b) { return depth(a) < depth(b); });
    for (const Bind& bind : binds_) attach_at(bind.mount.get(), bind.target);
  }

  void attach_files() {
    for (const GeneratedFile& file : files_) {
      const UniqueFd copy(
          openat(staging_.get(), ("files/" + file.name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!copy || write(copy.get(), file.text.data(), file.text.size()) != static_cast<ssize_t>(file.text.size()))
        throw system_error(errno, fmt::format("cannot write /etc/{} for the container", file.name), "write");
      const UniqueFd mount = clone_mount(copy.get(), false);
      set_mount_attributes(mount.get(), kPlainFile, MS_PRIVATE, false);
      attach_at(mount.get(), file.target);
    }
  }

  const RootfsRequest& request_;
  int image_;
  int root_ = -1;  // the topmost of the stack, and "/" in the end: the image or the overlay
  int stacked_ = 0;
  UniqueFd host_root_;
  UniqueFd staging_;
  UniqueFd overlay_;
  std::vector<Bind> binds_;
  std::vector<Bind> kernel_binds_;
  std::vector<DeviceNode> nodes_;
  std::vector<GeneratedFile> files_;
  std::string host_group_;
  std::vector<MountOption> proc_options_;
};

}  // namespace

UniqueFd build_rootfs(const RootfsRequest& request) {
  // Here and not in the child: a directory can be copied only in the mount namespace that it was opened in.
  const UniqueFd mounted = request.image_mount ? UniqueFd() : mount_image(*request.image, request.user);
  const int image = (request.image_mount ? *request.image_mount : mounted).get();
  const std::string what = fmt::format("cannot build the root file system from '{}'", request.image->path);
  ChildAnswer answer = ask_child(
      what, kBuildPatience,
      [&] {
        return ChildAnswer{{}, RootfsBuilder(request, image).build()};
      },
      ChildMemory::shared);
  if (!answer.fd) throw Error(ErrorCode::internal, what, "the child process sent no namespace");
  return std::move(answer.fd);
}

}  // namespace berth
