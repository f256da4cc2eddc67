#include "launcher/system/cgroup_devices.hpp"

#include <fmt/format.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

#include "launcher/core/char_devices.hpp"
#include "launcher/core/onload.hpp"

namespace berth {

namespace {

constexpr unsigned kRdmaMajor = 231;  // Documentation/admin-guide/devices.txt

/// Levels are counted from the root of the broker's cgroup namespace, which may lie this deep less one.
constexpr unsigned kNamespaceDepths = 8;

using Byte = std::uint8_t;
constexpr auto R0 = BPF_REG_0, R1 = BPF_REG_1, R2 = BPF_REG_2, R6 = BPF_REG_6, R7 = BPF_REG_7, R8 = BPF_REG_8,
               R9 = BPF_REG_9;

bpf_insn make(int code, int destination, int source, int offset, std::int32_t value) {
  bpf_insn instruction{};
  instruction.code = static_cast<Byte>(code);
  instruction.dst_reg = static_cast<Byte>(destination & 0xf);
  instruction.src_reg = static_cast<Byte>(source & 0xf);
  instruction.off = static_cast<std::int16_t>(offset);
  instruction.imm = value;
  return instruction;
}

bpf_insn move_register(int destination, int source) {
  return make(BPF_ALU64 | BPF_MOV | BPF_X, destination, source, 0, 0);
}
bpf_insn move_value(int destination, unsigned value) {
  return make(BPF_ALU64 | BPF_MOV | BPF_K, destination, 0, 0, static_cast<std::int32_t>(value));
}
bpf_insn load_field(int destination, std::size_t offset) {
  return make(BPF_LDX | BPF_MEM | BPF_W, destination, R6, static_cast<int>(offset), 0);
}
bpf_insn jump_if_value(int operation, int reg, unsigned value, std::size_t skip) {
  return make(BPF_JMP | operation | BPF_K, reg, 0, static_cast<int>(skip), static_cast<std::int32_t>(value));
}
bpf_insn jump_if_register(int operation, int reg, int other, std::size_t skip) {
  return make(BPF_JMP | operation | BPF_X, reg, other, static_cast<int>(skip), 0);
}
void append_verdict(std::vector<bpf_insn>& program, unsigned verdict) {
  program.push_back(move_value(R0, verdict));
  program.push_back(make(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

std::vector<bpf_insn> make_rule(const DeviceRule& rule) {
  std::vector<bpf_insn> allowed;
  for (const DeviceNumber& number : rule.allowed) {
    allowed.push_back(jump_if_value(BPF_JNE, R8, number.major, 3));
    allowed.push_back(jump_if_value(BPF_JNE, R9, number.minor, 2));
    append_verdict(allowed, 1);
  }
  append_verdict(allowed, 0);
  std::vector<bpf_insn> program;
  for (unsigned deeper = 0; deeper < kNamespaceDepths; ++deeper) {
    program.push_back(move_value(R1, rule.level + deeper));
    program.push_back(make(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_current_ancestor_cgroup_id));
    // A 64-bit constant takes two instructions.
    program.push_back(make(BPF_LD | BPF_DW | BPF_IMM, R2, 0, 0, static_cast<std::int32_t>(rule.cgroup)));
    program.push_back(make(0, 0, 0, 0, static_cast<std::int32_t>(rule.cgroup >> 32U)));
    program.push_back(jump_if_register(BPF_JEQ, R0, R2, (kNamespaceDepths - 1 - deeper) * 5 + 1));
  }
  program.push_back(make(BPF_JMP | BPF_JA, 0, 0, static_cast<int>(allowed.size()), 0));
  program.insert(program.end(), allowed.begin(), allowed.end());
  return program;
}

int call_bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

[[noreturn]] void fail(int error_number, const std::string& path, std::string_view operation) {
  throw system_error(
      error_number, fmt::format("cannot restrict RDMA devices in cgroup '{}'", path), operation,
      "this needs Linux 6.1 or later with BPF; with device_rules = false in the pool only the rank's own "
      "/dev keeps it from other devices");
}

}  // namespace

std::vector<bpf_insn> make_device_program(const std::vector<unsigned>& majors, const std::vector<DeviceRule>& rules) {
  std::vector<bpf_insn> program = {
      move_register(R6, R1),
      load_field(R7, offsetof(bpf_cgroup_dev_ctx, access_type)),
      make(BPF_ALU64 | BPF_AND | BPF_K, R7, 0, 0, 0xffff),
      load_field(R8, offsetof(bpf_cgroup_dev_ctx, major)),
      load_field(R9, offsetof(bpf_cgroup_dev_ctx, minor)),
      jump_if_value(BPF_JNE, R7, BPF_DEVCG_DEV_CHAR, majors.size()),
  };
  // Over the rest of the list and the verdict behind it.
  for (std::size_t i = 0; i < majors.size(); ++i)
    program.push_back(jump_if_value(BPF_JEQ, R8, majors[i], majors.size() - 1 - i + 2));
  append_verdict(program, 1);
  for (const DeviceRule& rule : rules) {
    const auto instructions = make_rule(rule);
    program.insert(program.end(), instructions.begin(), instructions.end());
  }
  append_verdict(program, 1);
  return program;
}

std::optional<std::size_t> choose_attach_level(const std::vector<DeviceAttachment>& ancestry) {
  std::optional<std::size_t> level;
  for (std::size_t i = 0; i < ancestry.size(); ++i) {
    if (ancestry[i].programs > 0 && !ancestry[i].multi) break;
    level = i;
  }
  return level;
}

DeviceAttachment read_device_attachment(const CgroupTree& tree, const std::string& path) {
  const UniqueFd cgroup = tree.open(path);
  std::array<std::uint32_t, 64> ids{};  // as many as a cgroup can have
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = reinterpret_cast<std::uint64_t>(ids.data());
  attributes.query.prog_cnt = ids.size();
  if (call_bpf(BPF_PROG_QUERY, attributes) != 0) fail(errno, path, "bpf(BPF_PROG_QUERY)");
  return {attributes.query.prog_cnt, (attributes.query.attach_flags & BPF_F_ALLOW_MULTI) != 0};
}

UniqueFd attach_device_rules(const CgroupTree& tree, const std::string& path, const std::vector<unsigned>& majors,
                             const std::vector<DeviceRule>& rules) {
  const std::vector<bpf_insn> program = make_device_program(majors, rules);
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.expected_attach_type = BPF_CGROUP_DEVICE;
  load.insns = reinterpret_cast<std::uint64_t>(program.data());
  load.insn_cnt = static_cast<std::uint32_t>(program.size());
  load.license = reinterpret_cast<std::uint64_t>("Apache-2.0");
  std::string_view("berth_rdma").copy(load.prog_name, sizeof load.prog_name - 1);
  const UniqueFd loaded(call_bpf(BPF_PROG_LOAD, load));
  if (!loaded) fail(errno, path, "bpf(BPF_PROG_LOAD)");
  const UniqueFd cgroup = tree.open(path);
  bpf_attr attach{};
  attach.link_create.prog_fd = static_cast<std::uint32_t>(loaded.get());
  attach.link_create.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attach.link_create.attach_type = BPF_CGROUP_DEVICE;
  UniqueFd link(call_bpf(BPF_LINK_CREATE, attach));
  if (!link) fail(errno, path, "bpf(BPF_LINK_CREATE)");
  return link;
}

std::vector<unsigned> parse_guarded_majors(std::string_view text) {
  std::vector<unsigned> majors{kRdmaMajor};
  for (const CharMajor& device : parse_char_majors(text)) {
    const bool is_guarded = device.name.starts_with("infiniband") || device.name == kOnloadAffinityDevice ||
                            std::ranges::find(kOnloadDevices, device.name) != kOnloadDevices.end();
    if (is_guarded && std::ranges::find(majors, device.major) == majors.end()) majors.push_back(device.major);
  }
  return majors;
}

}  // namespace berth
