// Rules about char devices for single cgroups: one BPF program (type CGROUP_DEVICE) that the kernel asks beside those
// of others. It only ever restricts, ends with its link, and never takes the place of another program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/system/cgroup_tree.hpp"
#include "launcher/system/fd.hpp"

struct bpf_insn;

namespace berth {

struct DeviceNumber {
  unsigned major = 0;
  unsigned minor = 0;
  bool operator==(const DeviceNumber&) const = default;
};

/// What the processes of one cgroup may open of the guarded majors.
struct DeviceRule {
  std::uint64_t cgroup = 0;  ///< CgroupTree::id()
  unsigned level = 0;        ///< how deep it lies below the root (0) of the caller's cgroup namespace
  std::vector<DeviceNumber> allowed;
};

/// A program that denies every char device of `majors` to the cgroups of `rules`, apart from what each is allowed, and
/// says yes to everything else.
std::vector<bpf_insn> make_device_program(const std::vector<unsigned>& majors, const std::vector<DeviceRule>& rules);

/// How programs are attached to one cgroup: what BPF_PROG_QUERY says.
struct DeviceAttachment {
  unsigned programs = 0;
  bool multi = false;  ///< programs of cgroups below it are asked in addition, not instead
};

/// The deepest place in an ancestry (root first) where a further program is asked in addition to all others: there and
/// above, nothing may be attached in a way that yields to it or forbids it. What lies below keeps its own programs, and
/// they go on being asked. nullopt: there is none.
std::optional<std::size_t> choose_attach_level(const std::vector<DeviceAttachment>& ancestry);

/// Attaches a program with `rules` for cgroups that all lie in `path` or below it. It is in force until the descriptor
/// is closed. Throws Error{host} with a fix.
UniqueFd attach_device_rules(const CgroupTree& tree, const std::string& path, const std::vector<unsigned>& majors,
                             const std::vector<DeviceRule>& rules);

DeviceAttachment read_device_attachment(const CgroupTree& tree, const std::string& path);

/// The majors of the char devices of RDMA and of Onload: those that /proc/devices names so, and the fixed one of RDMA.
/// `text`: its contents.
std::vector<unsigned> parse_guarded_majors(std::string_view text);

}  // namespace berth
