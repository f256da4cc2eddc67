// Giving up root for good: the steps, their order, and the proof that it worked.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace berth {

/// Who a process becomes, or under whose rights paths are opened.
struct Credentials {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  ///< supplementary groups, all of them
};

/// The group and the supplementary groups, each once.
std::vector<std::uint32_t> all_groups(const Credentials& user);

/// Who this process is: its real ids, and its supplementary groups. Throws Error{internal}.
Credentials read_credentials();

/// Empties the bounding set. Needs CAP_SETPCAP. Throws Error{internal}.
void drop_bounding_set();
/// Makes uid 0 an ordinary user for good: no capabilities by exec or setuid, locked.
/// Needs CAP_SETPCAP. Throws Error{internal}.
void lock_securebits();
/// Clears the ambient, inheritable, permitted and effective sets. Throws Error{internal}.
void clear_capabilities();
/// Clears what could survive an exec, and keeps the permitted and effective sets for a later setuid (slurmstepd's own
/// drop). Throws Error{internal}.
void clear_inheritable_and_ambient();
/// Throws Error{internal}.
void set_no_new_privs();

/// Throws Error{internal} unless real, effective and saved ids are `uid` and `gid` and all five capability sets are
/// empty. Makes system calls only: it does not trust a /proc that a container could have covered.
void verify_unprivileged(std::uint32_t uid, std::uint32_t gid);

/// The SELinux context that the next exec of this thread gives it (selinux(8), proc_pid_attr(5)). Throws Error{host} if
/// the kernel refuses it: unknown context, or SELinux off. Whether the transition is allowed shows at the exec only.
void apply_exec_label(const std::string& label);

/// What can be done where somebody else, as slurmstepd, changes the user ids afterwards: no capability is got again by
/// whatever (bounding set, inheritable and ambient sets, no_new_privs). The permitted set is left to that change. Needs
/// CAP_SETPCAP. Throws Error{internal}.
void prepare_drop_to_user();

/// Turns a forked child of root into `user`, irrevocably, and verifies it; or takes from a user's process the rights
/// that it has in a user namespace. Every failure throws Error{internal}; the caller must then end the process.
void drop_to_user(const Credentials& user);

/// Opens files with another user's rights while alive (file system uid, gid and groups; the real uid stays root, so
/// that the user can neither trace nor signal the process). For single-threaded children only: ends in the child's
/// death or in root again. Changes nothing where the process is the user's own. Throws Error{internal}.
class FileAccessAs {
 public:
  explicit FileAccessAs(const Credentials& user);
  FileAccessAs(const FileAccessAs&) = delete;
  FileAccessAs& operator=(const FileAccessAs&) = delete;
  ~FileAccessAs();

 private:
  std::vector<std::uint32_t> former_groups_;
  bool changes_groups_ = false;
  std::uint32_t former_gid_ = 0;
  std::uint32_t former_uid_ = 0;
};

/// Takes the effective capabilities from the process while alive, within a FileAccessAs (whose end needs them): with
/// that alone, root would still follow /proc/PID/root of processes that the user may not look into, and where the user
/// is root, or a user namespace's own, read what file modes deny. The permitted ones stay, so that a process that has
/// none cannot trace this one. Throws Error{internal}.
class WithoutCapabilities {
 public:
  WithoutCapabilities();
  WithoutCapabilities(const WithoutCapabilities&) = delete;
  WithoutCapabilities& operator=(const WithoutCapabilities&) = delete;
  ~WithoutCapabilities();

 private:
  std::array<std::uint32_t, 2> former_{};
};

}  // namespace berth
