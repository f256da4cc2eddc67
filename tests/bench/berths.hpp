// A node with one fabric and up to 128 berths on it, in namespaces of the calling process.
#pragma once

#include <string>
#include <vector>

#include "launcher/broker/berth.hpp"

namespace berth::bench {

/// Puts the process into a mount and a network namespace of its own, with a tmpfs on /mnt, a /dev/fuse that users may
/// open, and a veth pair whose end "fabric0" is the parent of all berths.
void enter_site();

class Berths {
 public:
  Berths();

  /// Parks and leases `count` berths, as the broker does; returns milliseconds. Parked ones are adopted. `ranks`: pids
  /// of those who get them, if somebody does.
  double acquire(std::size_t count, const std::vector<int>& ranks = {});
  /// Puts the calling process into a berth.
  void enter(std::size_t index) const;
  /// Releases what is held: the berths stay parked. Milliseconds.
  double release_all();
  /// Takes every parked berth down.
  void unpark_all();

  [[nodiscard]] const std::vector<HeldBerth>& held() const { return held_; }

 private:
  Journal journal_;
  std::vector<HeldBerth> held_;
};

/// `count` ranks enter berths that are parked, with nothing else around it: milliseconds until the last one is in.
double enter_warm(const Berths& berths, int count);
/// The cold path: `count` ranks each make a network namespace, move a NIC that exists already into it (as an SR-IOV VF
/// does), address it and bring it up. Milliseconds until the last one is ready.
double move_cold(int count);

}  // namespace berth::bench
