#include <linux/bpf.h>

#include <catch2/catch_test_macros.hpp>

#include "launcher/system/cgroup_devices.hpp"

using namespace berth;

namespace {

/// Runs a device program as the kernel would, for a process whose ancestor at `level` is `cgroup`: the instructions
/// that such programs consist of, and no other.
unsigned verdict(const std::vector<bpf_insn>& program, unsigned type, unsigned major, unsigned minor,
                 std::uint64_t cgroup, unsigned level = 2) {
  std::uint64_t reg[11] = {};
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& i = program[at];
    const auto value = static_cast<std::uint32_t>(i.imm);
    switch (i.code) {
      case BPF_ALU64 | BPF_MOV | BPF_X:
        reg[i.dst_reg] = reg[i.src_reg];
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K:
        reg[i.dst_reg] = value;
        break;
      case BPF_ALU64 | BPF_AND | BPF_K:
        reg[i.dst_reg] &= value;
        break;
      case BPF_LDX | BPF_MEM | BPF_W:
        reg[i.dst_reg] = i.off == 0 ? (BPF_DEVCG_ACC_READ << 16U | type) : i.off == 4 ? major : minor;
        break;
      case BPF_LD | BPF_DW | BPF_IMM:
        reg[i.dst_reg] = value | static_cast<std::uint64_t>(static_cast<std::uint32_t>(program.at(at + 1).imm)) << 32U;
        ++at;
        break;
      case BPF_JMP | BPF_CALL:
        REQUIRE(i.imm == BPF_FUNC_get_current_ancestor_cgroup_id);
        reg[0] = reg[1] == level ? cgroup : 1;
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
        if (reg[i.dst_reg] != value) at += static_cast<std::size_t>(i.off);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        if (reg[i.dst_reg] == value) at += static_cast<std::size_t>(i.off);
        break;
      case BPF_JMP | BPF_JA:
        at += static_cast<std::size_t>(i.off);
        break;
      case BPF_JMP | BPF_JEQ | BPF_X:
        if (reg[i.dst_reg] == reg[i.src_reg]) at += static_cast<std::size_t>(i.off);
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<unsigned>(reg[0]);
      default:
        FAIL("unknown instruction");
    }
  }
  FAIL("fell off the end");
  return 0;
}

}  // namespace

TEST_CASE("A device program denies what its cgroups are not allowed, and nothing else", "[devices]") {
  constexpr std::uint64_t kFirst = 0x1'8000'0001;
  constexpr std::uint64_t kSecond = 0x2'0000'0002;
  const auto program = make_device_program(
      {231, 511}, {{kFirst, 2, {{231, 192}, {231, 0}}}, {kSecond, 2, {{511, 5}}}, {kFirst + 1, 3, {}}});
  constexpr unsigned kChar = BPF_DEVCG_DEV_CHAR;
  CHECK(verdict(program, kChar, 231, 192, kFirst) == 1);
  CHECK(verdict(program, kChar, 231, 0, kFirst) == 1);
  CHECK(verdict(program, kChar, 231, 193, kFirst) == 0);
  CHECK(verdict(program, kChar, 511, 5, kFirst) == 0);
  CHECK(verdict(program, kChar, 511, 5, kSecond) == 1);
  CHECK(verdict(program, kChar, 231, 192, kSecond) == 0);
  CHECK(verdict(program, kChar, 231, 193, kFirst, 4) == 0);  // levels of a cgroup namespace begin deeper
  // Not of RDMA, no char device, or another cgroup.
  CHECK(verdict(program, kChar, 1, 3, kFirst) == 1);
  CHECK(verdict(program, BPF_DEVCG_DEV_BLOCK, 231, 193, kFirst) == 1);
  CHECK(verdict(program, kChar, 231, 193, 77) == 1);
}

TEST_CASE("Device programs are attached where they add to all others", "[devices]") {
  using Level = std::optional<std::size_t>;
  const DeviceAttachment none{}, multi{2, true}, alone{1, false};
  CHECK(choose_attach_level({none, none, none}) == Level(2));
  CHECK(choose_attach_level({none, multi, none, multi}) == Level(3));
  CHECK(choose_attach_level({none, multi, alone, none}) ==
        Level(1));  // below `alone` it would be forbidden, or replace
  CHECK(choose_attach_level({none, alone, multi}) == Level(0));
  CHECK(choose_attach_level({alone, none}) == Level());
}

TEST_CASE("Majors of RDMA and Onload in /proc/devices", "[devices]") {
  using Majors = std::vector<unsigned>;
  CHECK(parse_guarded_majors("Character devices:\n  1 mem\n231 infiniband_mad\n231 infiniband_verbs\n"
                             "509 infiniband_verbs\n 10 misc\n\nBlock devices:\n 99 infiniband\n") == Majors{231, 509});
  CHECK(parse_guarded_majors(
            "Character devices:\n506 onload_epoll\n507 onload\n 10 misc\n505 sfc_char\n504 sfc_affinity\n"
            "503 onload_other\n") == Majors{231, 506, 507, 505, 504});
  CHECK(parse_guarded_majors("") == Majors{231});
}
