#include "launcher/system/loop.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace berth {

namespace {

constexpr int kAttempts = 256;  // others take the free device that we were shown
constexpr unsigned kLoopMajor = 7;

UniqueFd open_loop(int number, const std::string& path) {
  UniqueFd device(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (device || errno != ENOENT) return device;
  // A /dev that is no devtmpfs does not show the device that the kernel has just made.
  const dev_t id = makedev(kLoopMajor, static_cast<unsigned>(number));
  if (mknod(path.c_str(), S_IFBLK | 0600, id) != 0 && errno != EEXIST) return {};
  return UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
}

}  // namespace

LoopDevice attach_loop(int file, std::uint64_t offset, std::uint64_t size, const std::string& name) {
  const std::string what = fmt::format("cannot attach '{}' to a loop device", name);
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) throw system_error(errno, what, "open /dev/loop-control", "load the kernel module 'loop' on this node");

  loop_config config{};
  config.fd = static_cast<unsigned>(file);
  config.info.lo_offset = offset;
  config.info.lo_sizelimit = size;
  config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
  std::memcpy(config.info.lo_file_name, name.data(), std::min<std::size_t>(name.size(), LO_NAME_SIZE - 1));

  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) throw system_error(errno, what, "ioctl(LOOP_CTL_GET_FREE)");
    LoopDevice device{{}, fmt::format("/dev/loop{}", number)};
    device.fd = open_loop(number, device.path);
    if (!device.fd) throw system_error(errno, what, fmt::format("open {}", device.path));
    struct stat status {};
    if (fstat(device.fd.get(), &status) != 0) throw system_error(errno, what, "fstat");
    if (!S_ISBLK(status.st_mode) || status.st_rdev != makedev(kLoopMajor, static_cast<unsigned>(number)))
      throw Error(ErrorCode::host, what, fmt::format("{} is not loop device {}", device.path, number));
    if (ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (errno != EBUSY) throw system_error(errno, what, "ioctl(LOOP_CONFIGURE)");
  }
  throw Error(ErrorCode::host, what, fmt::format("{} free loop devices in a row were taken by others", kAttempts));
}

}  // namespace berth
