#include "launcher/broker/step_socket.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

namespace berth {

namespace {

sockaddr_un address_in(const std::string& directory) {
  const std::string path = directory + "/socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw Error(ErrorCode::host, "cannot reach the broker of a step",
                fmt::format("'{}' is too long for a socket", path), "use a shorter state directory");
  std::ranges::copy(path, address.sun_path);
  return address;
}

UniqueFd make_socket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) throw system_error(errno, "cannot reach the broker of a step", "socket");
  return fd;
}

void make_step_directory(const std::string& directory) {
  const std::string steps = directory.substr(0, directory.rfind('/'));
  const std::string state = steps.substr(0, steps.rfind('/'));
  for (const auto& [path, mode] : {std::pair{&state, 0755U}, {&steps, 0700U}, {&directory, 0700U}})
    if (mkdir(path->c_str(), mode) != 0 && errno != EEXIST)
      throw system_error(errno, "cannot start the broker", fmt::format("mkdir {}", *path));
}

/// An empty descriptor if nobody listens there.
UniqueFd try_connect(const std::string& directory) {
  const sockaddr_un address = address_in(directory);
  UniqueFd fd = make_socket();
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  if (errno == ECONNREFUSED || errno == ENOENT) return {};
  throw system_error(errno, "cannot reach the broker of this step", fmt::format("connect {}", address.sun_path));
}

}  // namespace

std::string step_directory(const std::string& state_directory, std::uint32_t job, std::uint32_t step) {
  return fmt::format("{}/steps/{}.{}", state_directory, job, step);
}

std::string run_directory(const std::string& state_directory, std::uint32_t uid, std::uint64_t digest) {
  return fmt::format("{}/steps/run-{}-{:016x}", state_directory, uid, digest);
}

UniqueFd listen_for_ranks(const std::string& directory) {
  make_step_directory(directory);
  const sockaddr_un address = address_in(directory);
  unlink(address.sun_path);
  UniqueFd listener = make_socket();
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0)
    throw system_error(errno, "cannot start the broker", fmt::format("listen on {}", address.sun_path));
  return listener;
}

UniqueFd connect_or_start_broker(const std::string& directory, const std::function<void(const UniqueFd&)>& start) {
  for (;;) {
    make_step_directory(directory);
    const UniqueFd locked(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!locked) {
      if (errno == ENOENT) continue;  // its last broker has just removed it
      throw system_error(errno, "cannot start the broker", fmt::format("open {}", directory));
    }
    while (flock(locked.get(), LOCK_EX) != 0)
      if (errno != EINTR) throw system_error(errno, "cannot start the broker", "flock");
    try {
      if (UniqueFd fd = try_connect(directory)) return fd;
    } catch (const Error&) {
      rmdir(directory.c_str());  // which the kernel refuses while a socket is in it
      throw;
    }
    struct stat held {
    }, there{};
    if (fstat(locked.get(), &held) != 0 || stat(directory.c_str(), &there) != 0 || held.st_ino != there.st_ino)
      continue;  // removed before it was locked
    try {
      start(listen_for_ranks(directory));
    } catch (const Error&) {
      remove_step_directory(directory);
      throw;
    }
    if (UniqueFd fd = try_connect(directory)) return fd;
    throw Error(ErrorCode::internal, "cannot reach the broker of this step", "it ended at once",
                "see the system log of the node (berth-broker)");
  }
}

std::string directory_of(const UniqueFd& listener) {
  sockaddr_un address{};
  socklen_t size = sizeof address;
  if (getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sun_path[0] != '/')
    throw system_error(errno, "cannot tell the socket of this step", "getsockname");
  const std::string path = address.sun_path;
  return path.substr(0, path.rfind('/'));
}

UniqueFd connect_to_broker(const std::string& directory) {
  const sockaddr_un address = address_in(directory);
  UniqueFd fd = make_socket();
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw system_error(errno, "cannot reach the broker of this step", fmt::format("connect {}", address.sun_path),
                       "see the system log of the node (berth-broker)");
  return fd;
}

void remove_step_directory(const std::string& directory) {
  unlink((directory + "/socket").c_str());
  rmdir(directory.c_str());
}

unsigned remove_stale_step_directories(const std::string& state_directory) {
  const std::string steps = state_directory + "/steps";
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(steps.c_str()), closedir);
  if (!listing) return 0;
  std::vector<std::string> stale;
  while (const dirent* entry = readdir(listing.get())) {
    if (entry->d_name[0] == '.') continue;
    const std::string directory = steps + "/" + entry->d_name;
    const sockaddr_un address = address_in(directory);
    const UniqueFd fd = make_socket();
    // The broker takes a connection without a greeting for a rank that died early, and forgets it.
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        (errno == ECONNREFUSED || errno == ENOENT))
      stale.push_back(directory);
  }
  for (const std::string& directory : stale) remove_step_directory(directory);
  return static_cast<unsigned>(stale.size());
}

}  // namespace berth
