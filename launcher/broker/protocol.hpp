// What slurmstepd, the ranks, the broker and the relay say to each other: one JSON object per SOCK_SEQPACKET message,
// descriptors beside it. All sockets are reachable by root only, or were handed over as descriptors.
//
//   slurmstepd -> broker    StepRecord once, then RankRecord per rank as soon as it is forked; EOF ends the step
//                           between them {"report": true}, answered with {"report": TEXT}: what to tell the user at the
//                           end of a step that has Request::stats
//   berth-enter -> broker   StepRecord once, if this rank has started the broker; EOF says nothing
//   rank       -> broker    {"local_rank": N}, from berth-enter with {"rank": N}, and its standard
//                           error where the step has Request::stats; later {"entered": true}
//   broker     -> rank      {"admitted": true} or {"error": …} after "entered", if the Grant has an RDMA device
//   broker     -> rank      Grant, or {"error": …}, with {"heard": true} if another rank of berth-enter's has said it
//                           before that, while devices are awaited, {"waiting": TEXT}
//   broker     -> relay     {"berth": N} with the rank's relay socket and pidfd
//   relay      -> broker    {"closed": N}: the last rank of that berth is gone and no socket of it is held any more
//   rank       -> relay     {"port": N} with a listening socket in the rank's network namespace
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/environment.hpp"
#include "launcher/core/error_json.hpp"
#include "launcher/core/rdma_grant.hpp"
#include "launcher/core/request.hpp"
#include "launcher/core/values.hpp"
#include "launcher/system/records.hpp"

namespace berth {

/// A message and the descriptors that came with it.
struct Message {
  nlohmann::json body;
  std::vector<UniqueFd> fds;
};

/// As send_record() and receive_record(), for JSON.
void send_message(int socket, const nlohmann::json& body, const std::vector<int>& fds = {});
std::optional<Message> receive_message(int socket);

/// A step on one node, as its launcher describes it.
struct StepRecord {
  std::uint32_t job = 0;  ///< 0: not Slurm's
  std::uint32_t step = 0;
  int launcher_pid = 0;  ///< of who started the ranks (mpirun, a shell); 0: slurmstepd
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
  std::string slurm_conf;                             ///< path of slurm.conf; empty: Slurm's default
  std::string node;                                   ///< the scheduler's name of this node
  std::vector<std::string> runtime_directories;       ///< what the PMIx server shares with its ranks
  std::vector<std::string> session_directories = {};  ///< likewise by the user's word: only if they are the user's own
  std::vector<unsigned> ranks;                        ///< numbers in the step, by local rank
  unsigned awaited_ranks = 0;                         ///< how many announce themselves, where `ranks` is empty
  Request request;
};
nlohmann::json to_json_value(const StepRecord& record);
StepRecord parse_step_record(const nlohmann::json& json);

/// A rank's process, once it exists.
struct RankRecord {
  unsigned local_rank = 0;
  int pid = 0;
  CpuSet cpus;  ///< what the scheduler bound it to
};
nlohmann::json to_json_value(const RankRecord& record);
RankRecord parse_rank_record(const nlohmann::json& json);

/// What a rank gets. Descriptors follow in this order, each only if its flag is set: netns, rootfs, relay.
struct Grant {
  bool has_netns = false;
  bool has_rootfs = false;
  bool has_relay = false;
  bool shares_rootfs = false;  ///< as it is, with the other ranks; else each has a copy
  bool verbose = false;
  std::string device;   ///< for messages; empty: none
  std::string summary;  ///< one line for --rdma-verbose
  CpuSet pin_cpus;      ///< empty: do not pin
  CpuSet pin_memory;    ///< NUMA nodes; empty: leave the memory policy
  std::string working_directory;
  bool working_directory_required = false;  ///< the user named it; else "/" will do where the container lacks it
  std::optional<std::uint64_t> memlock;
  std::vector<RdmaGrant> rdma;
  std::vector<std::string> tested_devices;  ///< of Onload, names below /dev that the rank has to be able to open
  RankEnvironment environment;
};
nlohmann::json to_json_value(const Grant& grant);
Grant parse_grant(const nlohmann::json& json);

}  // namespace berth
