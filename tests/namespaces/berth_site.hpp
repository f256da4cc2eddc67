// A node with a fabric: a veth pair, "fabric0" to park macvlans on and "fabric1" as what is at the other end of the
// cable.
#pragma once

#include <memory>

#include "launcher/broker/berth.hpp"
#include "tests/namespaces/private_namespaces.hpp"

namespace berth::testing {

class BerthSite {
 public:
  BerthSite();

  static void make_parent();
  /// The macvlan with `index` on fabric0, with addresses of both families.
  static BerthSpec macvlan(unsigned index);
  /// A netdev that is moved: one end of a veth pair stands in for the VF. It is up and has addresses on the host.
  static BerthSpec moved_device();
  /// The moved device is on the host again, as it was.
  static void check_home();
  static LeaseOwner owner(unsigned job);
  /// No record, lock, pin or mount is left, and the netdevs are those of the beginning.
  void check_nothing_left();

 private:
  std::unique_ptr<TemporaryDirectory> directory_;

 public:
  Journal journal;
};

}  // namespace berth::testing
