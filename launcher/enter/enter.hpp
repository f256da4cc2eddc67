// What happens in the rank's own process, between the launcher's fork and the rank's exec. Two halves, because Slurm
// changes to the user between them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "launcher/broker/protocol.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// What the broker answered: the grant and its descriptors.
struct Entry {
  Grant grant;
  UniqueFd broker;  ///< connection to the broker, open until exec; its end lets other ranks fail, too
  UniqueFd netns;
  UniqueFd rootfs;
  UniqueFd relay;
  std::string phases;  ///< "wait 3.1, netns 0.1, …" in milliseconds, for --rdma-verbose
  bool heard = false;  ///< another rank has told the user of the error
};

/// Says `hello` (protocol.hpp) on a connection to the step's broker and waits for the answer, which it puts into
/// `entry`; `say` shows interim messages to the user, `fds` go with `hello`. false if the broker took no more ranks:
/// nothing was answered. Throws the broker's Error: mpirun ends all ranks as soon as one has failed, so keep `entry`
/// until the user has been told why.
bool request_entry(Entry& entry, UniqueFd broker, const nlohmann::json& hello, void (*say)(const std::string&),
                   const std::vector<int>& fds = {});

/// What to say of a broker that is gone before its time.
Error broker_ended();

/// As root, which has to be given up next: network namespace, root file system with fresh sysfs, locked memory.
void enter_as_root(Entry& entry);

/// As the user: proves that no privilege is left, and settles.
void enter_as_user(Entry& entry, std::uint32_t uid, std::uint32_t gid, const std::string& pmix_uri);

/// As the user, in the rank's namespaces: tries the RDMA devices, makes the PMIx listener if `pmix_uri` names one,
/// pins, and changes to the working directory.
void settle(Entry& entry, const std::string& pmix_uri);

/// Tells the broker that nothing can fail any more but exec: a rank that ends without this ends its whole step. A rank
/// with an RDMA device then waits until its cgroup restricts it. Throws the broker's Error.
void confirm_entry(Entry& entry);

/// Where `command` is: looks for it with `path` as execvp does, in the current root. Throws Error{image} with the exit
/// code to use in `exit_code` (126 or 127) if it is not there or not executable.
std::string find_command(const std::string& command, const std::string& path, int& exit_code);

}  // namespace berth
