// The lease directory: which device is parked, who holds it, and how it was before Berth touched it.
//
// STATE/locks/ID    (root only) an OFD write lock on it is the ownership of device ID. The kernel drops it with the
//                   last copy of the descriptor, so a holder that is killed holds nothing. What is written in the file
//                   says who that is, before the record does.
// STATE/leases/ID   (world readable) a JSON record, replaced atomically, written before every change that the kernel
//                   does not undo by itself. It says how to restore; whether it is held, only the lock says.
// STATE/netns/ID    the pinned network namespace of a parked device, or of the container that has it.
// STATE/lock        the node lock: held from looking at all leases to locking devices, so that two planners never see
//                   the same free device; not while devices are set up.
// STATE/pfs/PCI     the lock of a PF, held while attributes of its VFs are changed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/plan.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// Default of every --state option.
inline constexpr const char* kStateDirectory = "/run/berth";

enum class Phase { parking, parked, leased, releasing, unparking, quarantined };

/// A process that cannot be mistaken for a later one with the same pid: start time is field 22 of /proc/PID/stat.
struct ProcessIdentity {
  int pid = 0;
  std::uint64_t start_time = 0;  ///< clock ticks since boot
  bool operator==(const ProcessIdentity&) const = default;
};

/// "job 4711.0", "job 4711.batch"; without a job "process 4711".
std::string step_name(std::uint32_t job, std::uint32_t step, int launcher_pid);

/// Who holds a lease.
struct LeaseOwner {
  std::uint32_t job = 0;  ///< 0: not Slurm's
  std::uint32_t step = 0;
  int launcher_pid = 0;  ///< of mpirun or the shell that started the ranks; 0: slurmstepd
  std::uint32_t uid = 0;
  std::string user;
  std::vector<unsigned> ranks;
  ProcessIdentity broker;
  std::vector<int> processes = {};  ///< pids of the ranks, or of the container's first process: what they and their
                                    ///< children have is the lease's
  std::string container = {};       ///< id of the OCI container that has the device; then there is no job
  bool operator==(const LeaseOwner&) const = default;
};
/// What people call a container: its id, or the beginning of a long one.
std::string short_container_id(const std::string& id);
/// "job 4711.0 (alice)", "process 4711 (alice)", "container web1 (root)"
std::string to_string(const LeaseOwner& owner);

/// What the device was on the host before it was parked; empty for a macvlan, which Berth created, but for the RDMA
/// device that it shares.
struct OriginalState {
  std::string name;
  MacAddress mac{};
  unsigned mtu = 0;
  bool up = false;
  std::vector<IpPrefix> addresses = {};
  std::vector<IpPrefix> without_broadcast = {};  ///< those of them that had no broadcast address
  std::string rdma_device = {};                  ///< name; empty: none
  unsigned rdma_port = 0;                        ///< the one that belongs to the netdev, from 1
  std::uint64_t pci_instance = 0;                ///< see read_pci_instance(); 0: not a PCI function
  std::string driver = {};                       ///< of the PCI function
  VfAttributes vf = {};                          ///< all that the PF's driver reports, if any is to be changed
  bool operator==(const OriginalState&) const = default;
};

/// Which CPUs served an interrupt before Berth led it elsewhere.
struct IrqAffinity {
  unsigned irq = 0;
  CpuSet cpus;
  bool operator==(const IrqAffinity&) const = default;
};

struct LeaseRecord {
  BerthSpec berth;
  std::string boot_id;
  Phase phase = Phase::parking;
  std::uint64_t netns_inode = 0;  ///< 0: no netns yet
  bool foreign_netns = false;     ///< it is a container's: nobody in it is killed, and at release the device goes home
  OriginalState original;
  std::vector<std::string> joined = {};   ///< devices that have moved, or are about to move, into this one's netns, too
  std::vector<IrqAffinity> irqs = {};     ///< steered ones; only of PCI functions, and only while they are leased
  std::optional<LeaseOwner> owner;        ///< with Phase::leased and releasing; always with a foreign netns
  std::optional<std::uint32_t> last_uid;  ///< of the last owner; nullopt: nobody had the berth since it was built
  std::string reason;                     ///< with Phase::quarantined
  bool operator==(const LeaseRecord&) const = default;
};

std::string to_json_text(const LeaseRecord& record);
/// Throws Error{host} naming what is wrong with the text.
LeaseRecord parse_lease_record(const std::string& text);
std::string to_json_text(const LeaseOwner& owner);
LeaseOwner parse_lease_owner(const std::string& text);

/// Holds a lock until destroyed. The destructor closes and never unlocks: a forked child's copy keeps the lock.
class Lock {
 public:
  explicit Lock(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

/// The lease directory below one state directory. All functions throw Error{host} on I/O errors.
class Journal {
 public:
  /// Makes the directories (root) or merely names them: for others, who can only read, and for `Use::look`, which is no
  /// reason to make anything where nothing was ever parked.
  enum class Use { change, look };
  explicit Journal(std::string state_directory, Use use = Use::change);

  [[nodiscard]] const std::string& state_directory() const { return state_; }
  /// Whether this process may keep things there, and means to.
  [[nodiscard]] bool can_write() const;
  /// What the kernel calls this boot; a record that says otherwise is void.
  [[nodiscard]] const std::string& boot_id() const { return boot_id_; }
  [[nodiscard]] std::string netns_path(const std::string& id) const;

  /// The node lock; waits for it (SIGALRM-free, by F_OFD_SETLKW).
  [[nodiscard]] Lock lock_node() const;
  /// The lock of one device; nullopt if somebody else holds it. `owner` is who is said to hold it.
  [[nodiscard]] std::optional<Lock> try_lock_device(const std::string& id, const LeaseOwner* owner = nullptr) const;
  /// Who holds the device's lock, as far as that was said; root only.
  [[nodiscard]] std::optional<LeaseOwner> read_holder(const std::string& id) const;
  /// The lock of a PF; waits for it. Whoever holds one takes no other lock.
  [[nodiscard]] Lock lock_pf(const PciAddress& pf) const;
  /// Whether somebody holds the device's lock now (F_OFD_GETLK); root only.
  [[nodiscard]] bool is_locked(const std::string& id) const;

  [[nodiscard]] std::vector<std::string> ids() const;
  /// nullopt if there is none. A record that cannot be parsed, or of another boot, comes back as quarantined or absent
  /// respectively.
  [[nodiscard]] std::optional<LeaseRecord> read(const std::string& id) const;
  void write(const LeaseRecord& record) const;
  /// Record, pin directory entry and lock file; caller holds the lock. Whether there was more than the lock file.
  bool remove(const std::string& id) const;
  /// The same without the lock file, for a caller that goes on with the device.
  bool remove_record(const std::string& id) const;
  /// Ids of which a record, a lock file or a pin is left, whether or not the record counts; root only.
  [[nodiscard]] std::vector<std::string> traces() const;

  /// The inventory's view of all records. With `check_locks` (root) a lease whose lock nobody holds is not leased, and
  /// a device that somebody has locked is, whether or not it has a record yet.
  [[nodiscard]] std::vector<HeldDevice> held_devices(bool check_locks) const;

 private:
  [[nodiscard]] std::string lock_path(const std::string& id) const;
  [[nodiscard]] std::string lease_path(const std::string& id) const;

  std::string state_;
  Use use_;
  std::string boot_id_;
};

}  // namespace berth
