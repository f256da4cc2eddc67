#include "launcher/system/affinity.hpp"

#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <vector>

#include "launcher/system/fd.hpp"

namespace berth {
namespace {

constexpr std::size_t kWordBits = sizeof(unsigned long) * CHAR_BIT;

/// The kernel's bitmap for `cpus`, of at least `words` words.
std::vector<unsigned long> make_bitmap(const CpuSet& cpus, std::size_t words) {
  std::vector<unsigned long> bitmap(words, 0);
  for (const unsigned cpu : cpus.to_vector()) {
    if (cpu / kWordBits >= bitmap.size()) bitmap.resize(cpu / kWordBits + 1, 0);
    bitmap[cpu / kWordBits] |= 1UL << (cpu % kWordBits);
  }
  return bitmap;
}

cpu_set_t* as_cpu_set(std::vector<unsigned long>& bitmap) { return reinterpret_cast<cpu_set_t*>(bitmap.data()); }

}  // namespace

CpuSet read_affinity(int pid) {
  std::vector<unsigned long> bitmap(1024 / kWordBits, 0);
  while (sched_getaffinity(pid, bitmap.size() * sizeof(unsigned long), as_cpu_set(bitmap)) != 0) {
    const int error = errno;
    // EINVAL: the kernel's own mask is wider than the buffer.
    if (error != EINVAL || bitmap.size() * kWordBits > kMaxCpu) {
      throw system_error(error, fmt::format("cannot read the CPU affinity of process {}", pid), "sched_getaffinity");
    }
    bitmap.resize(bitmap.size() * 2, 0);
  }
  CpuSet cpus;
  for (std::size_t bit = 0; bit < bitmap.size() * kWordBits; ++bit) {
    if (((bitmap[bit / kWordBits] >> (bit % kWordBits)) & 1UL) != 0) cpus.add(static_cast<unsigned>(bit));
  }
  return cpus;
}

void apply_affinity(const CpuSet& cpus) {
  std::vector<unsigned long> bitmap = make_bitmap(cpus, 1);
  const std::string what = fmt::format("cannot pin to CPUs {}", to_string(cpus));
  if (sched_setaffinity(0, bitmap.size() * sizeof(unsigned long), as_cpu_set(bitmap)) != 0) {
    const int error = errno;
    throw system_error(error, what, "sched_setaffinity",
                       error == EINVAL ? "none of them is online and in the cpuset of the job's cgroup" : "");
  }
  // The kernel silently drops CPUs outside the cgroup's cpuset: a rank on fewer CPUs than planned must not go unseen.
  const CpuSet granted = read_affinity();
  if (granted == cpus) return;
  throw Error(ErrorCode::host, what, fmt::format("the kernel granted only CPUs {}", to_string(granted)),
              "the others are offline or outside the cpuset of the job's cgroup");
}

void apply_widest_affinity() {
  // The kernel cuts it down to the CPUs that there are.
  std::vector<unsigned long> all(kMaxCpu / kWordBits + 1, ~0UL);
  sched_setaffinity(0, all.size() * sizeof(unsigned long), as_cpu_set(all));
}

void apply_memory_nodes(const CpuSet& numa_nodes) {
  std::vector<unsigned long> bitmap = make_bitmap(numa_nodes, 1);
  const bool bind = !numa_nodes.empty();
  // The kernel takes one bit less than it is told, hence + 1.
  const long result = syscall(SYS_set_mempolicy, bind ? MPOL_BIND : MPOL_DEFAULT, bind ? bitmap.data() : nullptr,
                              bind ? bitmap.size() * kWordBits + 1 : 0);
  if (result == 0) return;
  const int error = errno;
  throw system_error(error, fmt::format("cannot bind memory to NUMA nodes {}", to_string(numa_nodes)), "set_mempolicy",
                     error == EINVAL ? "none of them has memory in the cpuset of the job's cgroup" : "");
}

}  // namespace berth
