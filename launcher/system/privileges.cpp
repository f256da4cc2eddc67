#include "launcher/system/privileges.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>

#include "launcher/system/fd.hpp"

namespace berth {

namespace {

[[noreturn]] void fail(int error_number, std::string_view operation) {
  Error error = system_error(error_number, "cannot give up privileges", operation,
                             "this is a defect of Berth or of the kernel's security settings: report it");
  error.code = ErrorCode::internal;
  throw error;
}

std::vector<std::uint32_t> read_groups() {
  const int count = getgroups(0, nullptr);
  if (count < 0) fail(errno, "getgroups");
  std::vector<std::uint32_t> groups(static_cast<std::size_t>(count));
  if (getgroups(count, groups.data()) < 0) fail(errno, "getgroups");
  return groups;
}

/// Not by the C library's function, which, where a child shares memory, would have its parent's threads change theirs.
long set_groups(const std::vector<std::uint32_t>& groups) {
  return syscall(SYS_setgroups, groups.size(), groups.data());
}

// Whether the bounding set has it; nullopt: the kernel does not know it, nor any above.
std::optional<bool> bounding_has(unsigned long capability) {
  const int has = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
  if (has < 0 && errno == EINVAL && capability > CAP_SETPCAP) return std::nullopt;
  if (has < 0) fail(errno, fmt::format("prctl(PR_CAPBSET_READ, {})", capability));
  return has == 1;
}

/// Returns what the set was.
std::array<std::uint32_t, 2> exchange_effective_set(const std::array<std::uint32_t, 2>& wanted) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, sets) != 0) fail(errno, "capget");
  const std::array former{sets[0].effective, sets[1].effective};
  for (std::size_t i = 0; i < wanted.size(); ++i) sets[i].effective = wanted[i];
  if (syscall(SYS_capset, &header, sets) != 0) fail(errno, "capset");
  return former;
}

}  // namespace

std::vector<std::uint32_t> all_groups(const Credentials& user) {
  std::vector<std::uint32_t> groups{user.gid};
  for (const std::uint32_t group : user.groups)
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  return groups;
}

Credentials read_credentials() { return {getuid(), getgid(), read_groups()}; }

void drop_bounding_set() {
  for (unsigned long capability = 0;; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    const int error_number = errno;
    const auto has = bounding_has(capability);
    if (!has) return;
    // Without CAP_SETPCAP nothing can be dropped, and need not be where nothing is left.
    if (*has) fail(error_number, fmt::format("prctl(PR_CAPBSET_DROP, {})", capability));
  }
}

void lock_securebits() {
  // Not SECBIT_KEEP_CAPS_LOCKED: who has no capability has none to keep, and iputils' ping insists on PR_SET_KEEPCAPS.
  constexpr unsigned long bits =
      SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED;
  if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) != 0) fail(errno, "prctl(PR_SET_SECUREBITS)");
}

void clear_capabilities() {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail(errno, "prctl(PR_CAP_AMBIENT_CLEAR_ALL)");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capset, &header, none) != 0) fail(errno, "capset");
}

void clear_inheritable_and_ambient() {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail(errno, "prctl(PR_CAP_AMBIENT_CLEAR_ALL)");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, sets) != 0) fail(errno, "capget");
  for (auto& half : sets) half.inheritable = 0;
  if (syscall(SYS_capset, &header, sets) != 0) fail(errno, "capset");
}

void set_no_new_privs() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(errno, "prctl(PR_SET_NO_NEW_PRIVS)");
}

void verify_unprivileged(std::uint32_t uid, std::uint32_t gid) {
  const auto refuse = [](std::string why) {
    throw Error(ErrorCode::internal, "cannot give up privileges", std::move(why),
                "this is a defect of Berth or of the kernel's security settings: report it");
  };
  uid_t real = 0, effective = 0, saved = 0;
  if (getresuid(&real, &effective, &saved) != 0) fail(errno, "getresuid");
  if (real != uid || effective != uid || saved != uid)
    refuse(fmt::format("user ids are {}/{}/{}, not {}", real, effective, saved, uid));
  gid_t real_group = 0, effective_group = 0, saved_group = 0;
  if (getresgid(&real_group, &effective_group, &saved_group) != 0) fail(errno, "getresgid");
  if (real_group != gid || effective_group != gid || saved_group != gid)
    refuse(fmt::format("group ids are {}/{}/{}, not {}", real_group, effective_group, saved_group, gid));

  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, sets) != 0) fail(errno, "capget");
  for (const auto& half : sets)
    if ((half.effective | half.permitted | half.inheritable) != 0) refuse("capabilities are left");
  // The ambient set is empty then: the kernel keeps it within the permitted and inheritable ones (capabilities(7)).
  unsigned long capability = 0;
  for (std::optional<bool> has; (has = bounding_has(capability)); ++capability)
    if (*has) refuse(fmt::format("capability {} is left in the bounding set", capability));
}

void prepare_drop_to_user() {
  drop_bounding_set();
  clear_inheritable_and_ambient();
  set_no_new_privs();
}

void drop_to_user(const Credentials& user) {
  drop_bounding_set();
  lock_securebits();
  // In a user namespace of one user nobody may call setgroups(), nor needs to.
  if (user.groups != read_groups() && set_groups(user.groups) != 0) fail(errno, "setgroups");
  if (setresgid(user.gid, user.gid, user.gid) != 0) fail(errno, "setresgid");
  if (setresuid(user.uid, user.uid, user.uid) != 0) fail(errno, "setresuid");
  clear_capabilities();
  set_no_new_privs();
  verify_unprivileged(user.uid, user.gid);
}

void apply_exec_label(const std::string& label) {
  const UniqueFd file(open("/proc/thread-self/attr/exec", O_WRONLY | O_CLOEXEC));
  if (file && write(file.get(), label.data(), label.size()) == static_cast<ssize_t>(label.size())) return;
  const int error_number = errno;
  Error error = system_error(error_number, fmt::format("cannot give the rank the SELinux label '{}'", label),
                             "writing to /proc/thread-self/attr/exec",
                             "correct selinux_label in the policy, or load a SELinux policy that knows this label");
  if (error_number == EINVAL) error.why = "the SELinux policy that is loaded knows no such label; " + error.why;
  throw error;
}

FileAccessAs::FileAccessAs(const Credentials& user)
    : former_groups_(read_groups()), changes_groups_(user.groups != former_groups_) {
  if (changes_groups_ && set_groups(user.groups) != 0) fail(errno, "setgroups");
  former_gid_ = static_cast<std::uint32_t>(setfsgid(user.gid));
  former_uid_ = static_cast<std::uint32_t>(setfsuid(user.uid));
  // Neither call reports failure; an id that cannot be set shows what is in force.
  if (static_cast<std::uint32_t>(setfsgid(static_cast<gid_t>(-1))) != user.gid ||
      static_cast<std::uint32_t>(setfsuid(static_cast<uid_t>(-1))) != user.uid)
    fail(EPERM, "setfsuid");
}

FileAccessAs::~FileAccessAs() {
  setfsuid(former_uid_);
  setfsgid(former_gid_);
  const bool restored = (!changes_groups_ || set_groups(former_groups_) == 0) &&
                        static_cast<std::uint32_t>(setfsuid(static_cast<uid_t>(-1))) == former_uid_;
  if (!restored) std::abort();
}

WithoutCapabilities::WithoutCapabilities() : former_(exchange_effective_set({})) {}

// In noexcept: what cannot be restored (it is permitted still) ends the process.
WithoutCapabilities::~WithoutCapabilities() { exchange_effective_set(former_); }

}  // namespace berth
