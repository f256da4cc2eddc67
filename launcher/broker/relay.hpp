// The relay: an unprivileged process of the job's user that stays in the host's network namespace for a whole step.
// A rank in a netns of its own cannot reach its PMIx server on the host's loopback; but a socket keeps the netns it was
// made in, so the rank makes a listener on the same port of its own loopback and hands it to the relay, which connects
// each client to the real server. It is off the data path: MPI messages never pass through it.
// It is also the watchdog of the broker: a rank never outlives its broker, because the relay would kill it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "launcher/image/image.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

/// The broker's handle on its relay.
struct RelayProcess {
  UniqueFd control;  ///< closes when the relay ends
  UniqueFd pidfd;
};

/// Forks the relay from the calling, single-threaded process, in the control group that `cgroup` is of (join_cgroup()),
/// and drops it to `user` without any capability.
RelayProcess start_relay(const Credentials& user, int cgroup = -1);

/// Port of the first "tcp4://127.0.0.1:PORT" in a PMIX_SERVER_URI value; nullopt if it names no loopback TCP port.
std::optional<std::uint16_t> parse_pmix_port(std::string_view uri);

/// In the rank, inside its netns: makes the listener for `port` on 127.0.0.1 and hands it to the relay. A port that is
/// taken is another rank's listener in the same netns and serves this rank as well.
void offer_pmix_listener(int relay_socket, std::uint16_t port);

}  // namespace berth
