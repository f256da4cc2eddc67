#include "launcher/broker/journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "launcher/broker/device_moves.hpp"
#include "launcher/system/namespaces.hpp"

namespace berth {

namespace {

/// Makes a directory that only root can write, or checks that it is one.
void make_directory(const std::string& path, mode_t mode) {
  const std::string what = fmt::format("cannot use state directory '{}'", path);
  if (mkdir(path.c_str(), mode) == 0) {
    // The umask of whoever came first must not decide.
    if (chmod(path.c_str(), mode) != 0) throw system_error(errno, what, "chmod");
  } else if (errno != EEXIST) {
    throw system_error(errno, what, "mkdir");
  }
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) throw system_error(errno, what, "lstat");
  if (!S_ISDIR(status.st_mode) || status.st_uid != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    throw Error(ErrorCode::host, what, "it is not a directory that belongs to root and that only root can write",
                "remove it, or choose another");
}

/// Ids become file names. Names that end in ".new" are those of records that are being written.
bool is_device_id(std::string_view id) {
  return !id.empty() && id.size() <= 200 && id.front() != '.' && !id.ends_with(".new") &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c != '/' && c != 0x7f; });
}

void require_device_id(const std::string& id) {
  if (!is_device_id(id))
    throw Error(ErrorCode::usage, fmt::format("no device '{}'", id), "this is not the form of a device id");
}

struct flock make_lock(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

Lock wait_for_lock(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) throw system_error(errno, "cannot take a lock of the node", fmt::format("open '{}'", path));
  struct flock lock = make_lock(F_WRLCK);
  while (fcntl(fd.get(), F_OFD_SETLKW, &lock) != 0)
    if (errno != EINTR) throw system_error(errno, "cannot take a lock of the node", "fcntl");
  return Lock(std::move(fd));
}

std::vector<std::string> read_ids(const std::string& directory) {
  std::vector<std::string> ids;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    if (std::string name = entry->path().filename(); is_device_id(name)) ids.push_back(std::move(name));
  if (error && error != std::errc::no_such_file_or_directory)
    throw system_error(error.value(), fmt::format("cannot list '{}'", directory), "readdir");
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool remove_file(const std::string& path) {
  if (unlink(path.c_str()) == 0) return true;
  if (errno != ENOENT) throw system_error(errno, fmt::format("cannot remove '{}'", path), "unlink");
  return false;
}

}  // namespace

Journal::Journal(std::string state_directory, Use use) : state_(std::move(state_directory)), use_(use) {
  boot_id_ = read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id");
  while (!boot_id_.empty() && boot_id_.back() == '\n') boot_id_.pop_back();
  if (geteuid() != 0 || (use == Use::look && access(state_.c_str(), F_OK) != 0)) return;
  make_directory(state_, 0755);
  make_directory(state_ + "/locks", 0700);
  make_directory(state_ + "/pfs", 0700);
  make_directory(state_ + "/leases", 0755);
  // Whoever can open a pin can keep its netns alive.
  make_directory(state_ + "/netns", 0700);
}

bool Journal::can_write() const { return use_ == Use::change && access(state_.c_str(), W_OK) == 0; }

std::string Journal::netns_path(const std::string& id) const { return fmt::format("{}/netns/{}", state_, id); }
std::string Journal::lock_path(const std::string& id) const { return fmt::format("{}/locks/{}", state_, id); }
std::string Journal::lease_path(const std::string& id) const { return fmt::format("{}/leases/{}", state_, id); }

Lock Journal::lock_node() const { return wait_for_lock(state_ + "/lock"); }
Lock Journal::lock_pf(const PciAddress& pf) const {
  return wait_for_lock(fmt::format("{}/pfs/{}", state_, to_string(pf)));
}

std::optional<Lock> Journal::try_lock_device(const std::string& id, const LeaseOwner* owner) const {
  require_device_id(id);
  const std::string path = lock_path(id);
  const std::string what = fmt::format("cannot lock device {}", id);
  for (;;) {
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) throw system_error(errno, what, fmt::format("open '{}'", path));
    struct flock lock = make_lock(F_WRLCK);
    if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      if (errno == EAGAIN || errno == EACCES) return std::nullopt;
      throw system_error(errno, what, "fcntl");
    }
    // remove() may have unlinked the file between open and lock: a lock on a file without a name excludes nobody.
    struct stat mine {};
    struct stat named {};
    if (fstat(fd.get(), &mine) != 0) throw system_error(errno, what, "fstat");
    if (lstat(path.c_str(), &named) != 0 || named.st_ino != mine.st_ino || named.st_dev != mine.st_dev) continue;
    if (mine.st_size > 0 && ftruncate(fd.get(), 0) != 0) throw system_error(errno, what, "ftruncate");
    const std::string text = owner ? to_json_text(*owner) : std::string{};
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      throw system_error(errno, what, "write");
    return Lock(std::move(fd));
  }
}

std::optional<LeaseOwner> Journal::read_holder(const std::string& id) const {
  if (!is_locked(id)) return std::nullopt;
  try {
    return parse_lease_owner(read_file(AT_FDCWD, lock_path(id)));
  } catch (const Error&) {
    return std::nullopt;  // it did not say, or does not hold it any more
  }
}

bool Journal::is_locked(const std::string& id) const {
  require_device_id(id);
  // Read-only: whoever waits for locks to be closed (inotify, IN_CLOSE_WRITE) is not woken by those who merely look.
  const UniqueFd fd(open(lock_path(id).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return false;
  if (!fd) throw system_error(errno, fmt::format("cannot look at the lock of device {}", id), "open");
  struct flock lock = make_lock(F_WRLCK);
  if (fcntl(fd.get(), F_OFD_GETLK, &lock) != 0)
    throw system_error(errno, fmt::format("cannot look at the lock of device {}", id), "fcntl");
  return lock.l_type != F_UNLCK;
}

std::vector<std::string> Journal::ids() const { return read_ids(state_ + "/leases"); }

std::vector<std::string> Journal::traces() const {
  std::vector<std::string> all = ids();
  for (const char* directory : {"/locks", "/netns"})
    for (std::string& id : read_ids(state_ + directory)) all.push_back(std::move(id));
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::optional<LeaseRecord> Journal::read(const std::string& id) const {
  require_device_id(id);
  const std::string path = lease_path(id);
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
  try {
    LeaseRecord record = parse_lease_record(read_file(AT_FDCWD, path));
    if (record.boot_id != boot_id_) return std::nullopt;
    if (record.berth.id != id)
      throw Error(ErrorCode::host, "cannot read a lease record", fmt::format("it is that of '{}'", record.berth.id));
    return record;
  } catch (const Error& error) {
    // It may have been removed since access().
    if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
    LeaseRecord record;
    record.berth.id = id;
    record.boot_id = boot_id_;
    record.phase = Phase::quarantined;
    record.reason = fmt::format("{}: {}", error.what(), error.why);
    return record;
  }
}

void Journal::write(const LeaseRecord& record) const {
  require_device_id(record.berth.id);
  // Not synced to disk: the record is void after a reboot, like everything that it speaks of.
  write_file_atomically(lease_path(record.berth.id), to_json_text(record), 0644);
}

bool Journal::remove_record(const std::string& id) const {
  require_device_id(id);
  // The record goes last: as long as it exists somebody will come back and finish.
  const bool pinned = unpin_netns(netns_path(id));
  return remove_file(lease_path(id)) || pinned;
}

bool Journal::remove(const std::string& id) const {
  const bool existed = remove_record(id);
  // After everything else: once its name is gone, others can make a new lock and hold that.
  remove_file(lock_path(id));
  return existed;
}

std::vector<HeldDevice> Journal::held_devices(bool check_locks) const {
  std::vector<HeldDevice> devices;
  for (const std::string& id : check_locks ? traces() : ids()) {
    const auto record = read(id);
    const bool in_lease = record && (record->phase == Phase::leased || record->phase == Phase::releasing);
    HeldDevice device;
    device.device_id = id;
    device.parked = record && record->netns_inode != 0;
    if (record) device.parent = record->berth.parent;
    device.leased = check_locks ? is_locked(id) : in_lease;
    if (!record && !device.leased) continue;
    if (device.leased) {
      std::optional<LeaseOwner> owner = check_locks ? read_holder(id) : std::nullopt;
      if (!owner && in_lease) owner = record->owner;
      if (in_lease && record->owner) device.processes = record->owner->processes;
      device.holder = owner ? to_string(*owner) : "a process that is changing it";
      if (owner) device.job = owner->job;
      if (owner) device.uid = owner->uid;
    }
    if (record && record->phase == Phase::quarantined && still_exists(*record)) device.quarantined = record->reason;
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace berth
