#include "launcher/enter/self_test.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "launcher/core/error.hpp"
#include "launcher/core/usnic.hpp"
#include "launcher/system/fd.hpp"
#include "launcher/system/link_addresses.hpp"
#include "launcher/system/link_flags.hpp"
#include "launcher/system/rdma_port.hpp"

namespace berth {

namespace {

[[noreturn]] void fail(const RdmaGrant& grant, std::string_view step, std::string why, std::string fix) {
  throw Error(ErrorCode::host, fmt::format("cannot use RDMA device '{}': self-test failed at '{}'", grant.device, step),
              std::move(why), std::move(fix));
}

void test_node(const RdmaGrant& grant) {
  const std::string path = "/dev/infiniband/" + grant.nodes.at(0).name;
  const UniqueFd node(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (node) return;
  const int error_number = errno;
  fail(grant, "open node", system_error(error_number, path, fmt::format("open {}", path)).why,
       error_number == EACCES  ? "give the node's mode to users on the host (udev rule of rdma-core: 0666)"
       : error_number == EPERM ? "a device cgroup denies it (ConstrainDevices of Slurm), or the device is in another "
                                 "network namespace"
                               : "see the kernel's log");
}

void test_port(const RdmaGrant& grant, int sysfs) {
  const std::string state = read_rdma_port_state(sysfs, grant.device, grant.port);
  if (state.starts_with("4:")) return;
  fail(grant, "port active",
       state.empty() ? fmt::format("there is no port {}", grant.port)
                     : fmt::format("port {} is '{}'", grant.port, state),
       is_usnic_name(grant.device) ? "check the link; a usNIC in state INIT has no IPv4 address: ip address add"
                                   : "check cable and switch port, and the link of the PF");
}

void test_link(const RdmaGrant& grant) {
  const auto flags = read_link_flags(grant.interface);
  if (!flags) fail(grant, "link up", fmt::format("there is no '{}'", grant.interface), "run as root: berth repair");
  if (!flags->up || !flags->running)
    fail(grant, "link up", fmt::format("'{}' has no link", grant.interface),
         "check cable and switch port, and the link of the PF");
}

void test_addresses(const RdmaGrant& grant) {
  const std::vector<IpPrefix> present = read_link_addresses(grant.interface).addresses;
  for (const IpPrefix& address : grant.addresses)
    if (std::find(present.begin(), present.end(), address) == present.end())
      fail(grant, "address present", fmt::format("'{}' has no {}", grant.interface, to_string(address)),
           "run as root: berth unpark, then berth park");
}

void test_gids(const RdmaGrant& grant, int sysfs) {
  if (is_usnic_name(grant.device)) {
    const MacAddress mac = read_link_addresses(grant.interface).mac;
    if (const auto defect = find_usnic_gid_defect(sysfs, grant.device, mac, grant.addresses))
      fail(grant, "GID present", *defect, "run as root: berth unpark, then berth park");
    return;
  }
  if (is_infiniband_port(sysfs, grant.device, grant.port)) return;
  if (const auto missing = find_address_without_gid(sysfs, grant.device, grant.port, grant.interface, grant.addresses))
    fail(grant, "GID present", fmt::format("its table has no GID for {} of '{}'", *missing, grant.interface),
         "run as root: berth unpark, then berth park");
}

void test_memlock(const RdmaGrant& grant, std::uint64_t memlock) {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= memlock) return;
  fail(grant, "locked memory",
       fmt::format("the limit is {} bytes, and the policy asks for {}", limit.rlim_cur, memlock),
       "give slurmd LimitMEMLOCK=infinity, and set PropagateResourceLimitsExcept=MEMLOCK in slurm.conf");
}

}  // namespace

void run_self_test(const RdmaGrant& grant, const std::optional<std::uint64_t>& memlock) {
  const UniqueFd sysfs(open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!sysfs) throw system_error(errno, "cannot test the RDMA device", "open /sys");
  test_node(grant);
  test_port(grant, sysfs.get());
  if (!grant.interface.empty()) {
    test_link(grant);
    test_addresses(grant);
    test_gids(grant, sysfs.get());
  }
  if (memlock) test_memlock(grant, *memlock);
}

void run_onload_self_test(const std::vector<std::string>& devices) {
  for (const std::string& device : devices) {
    const std::string path = "/dev/" + device;
    if (UniqueFd(open(path.c_str(), O_RDWR | O_CLOEXEC))) continue;
    const int error_number = errno;
    throw Error(ErrorCode::host, fmt::format("cannot use Onload: self-test failed at '{}'", path),
                system_error(error_number, path, fmt::format("open {}", path)).why,
                error_number == EACCES
                    ? "ask the administrator to let you use it: ONLOAD_GROUP and ONLOAD_MODE (SFC_CHAR_… for sfc_char) "
                      "in /etc/sysconfig/openonload"
                : error_number == EPERM
                    ? "a device cgroup denies it: allow it there (GRES with its file in gres.conf), or set "
                      "ConstrainDevices=no in cgroup.conf"
                    : "no driver is behind this number any more: reload it (onload_tool reload)");
  }
}

}  // namespace berth
