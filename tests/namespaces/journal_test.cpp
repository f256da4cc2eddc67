#include "launcher/broker/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <memory>

#include "tests/namespaces/private_namespaces.hpp"

using namespace berth;
using berth::testing::Child;

namespace {

struct State {
  State() : directory((testing::enter_private_namespaces(), std::make_unique<testing::TemporaryDirectory>())) {}
  std::unique_ptr<testing::TemporaryDirectory> directory;
  Journal journal{directory->path() + "/berth"};
};

LeaseRecord full_record(const Journal& journal) {
  LeaseRecord record;
  record.berth = {.id = "0000:3b:02.1",
                  .pool = "fast",
                  .kind = PoolKind::sriov,
                  .parent = "eth5",
                  .pci = parse_pci_address("0000:3b:02.1"),
                  .index = 7,
                  .interface = "rdma0",
                  .park = Park::boot,
                  .inherit_addresses = true,
                  .addresses = {parse_ip_prefix("10.1.2.3/16").value(), parse_ip_prefix("fd00::3/64").value()},
                  .mtu = 9000,
                  .gateways = {parse_ip_prefix("10.1.0.1/32").value()},
                  .numa_node = 1,
                  .rdma = {RdmaMode::exclusive, 4U, 2000U, true, true, "system_u:system_r:berth_t:s0"},
                  .vf = {.vlan = VfVlan{7, 3, VlanProtocol::dot1ad}, .trust = false}};
  record.boot_id = journal.boot_id();
  record.phase = Phase::leased;
  record.irqs = {{35, CpuSet::range(0, 3)}, {36, CpuSet::range(2, 2)}};
  record.netns_inode = 4026532999;
  record.original = {"eth5v1",
                     {2, 3, 4, 5, 6, 7},
                     1500,
                     true,
                     {parse_ip_prefix("192.168.7.1/24").value()},
                     {parse_ip_prefix("192.168.7.1/24").value()},
                     "mlx5_3",
                     1,
                     77,
                     "igbvf",
                     {.vlan = VfVlan{},
                      .mac = MacAddress{},
                      .min_rate = 1,
                      .max_rate = 2,
                      .spoofchk = true,
                      .trust = true,
                      .link_state = VfLinkState::disable,
                      .node_guid = 0xfffffffffffffffe,
                      .port_guid = 1}};
  record.owner = LeaseOwner{4711, 0, 0, 1000, "alice", {3, 5}, {4242, 987654321}};
  record.last_uid = 1000;
  return record;
}

unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

}  // namespace

TEST_CASE_METHOD(State, "a lease record survives being written and read, in every phase") {
  LeaseRecord record = full_record(journal);
  for (const Phase phase :
       {Phase::parking, Phase::parked, Phase::leased, Phase::releasing, Phase::unparking, Phase::quarantined}) {
    record.phase = phase;
    record.reason = phase == Phase::quarantined ? "it \"bites\"\n" : "";
    CHECK(parse_lease_record(to_json_text(record)) == record);
    journal.write(record);
    CHECK(journal.read(record.berth.id) == record);
  }
  CHECK(journal.ids() == std::vector<std::string>{record.berth.id});
  CHECK(to_string(*record.owner) == "job 4711.0 (alice)");

  LeaseRecord small;
  small.berth.id = "eth1.mv0";
  CHECK(parse_lease_record(to_json_text(small)) == small);
}

TEST_CASE_METHOD(State, "the state directory shows users the records and nothing else") {
  journal.write(full_record(journal));
  const std::string state = journal.state_directory();
  CHECK(mode_of(state) == 0755);
  CHECK(mode_of(state + "/leases") == 0755);
  CHECK(mode_of(state + "/leases/0000:3b:02.1") == 0644);
  CHECK(mode_of(state + "/locks") == 0700);
  CHECK(mode_of(state + "/netns") == 0700);
  const auto lock = journal.try_lock_device("0000:3b:02.1");
  CHECK(mode_of(state + "/locks/0000:3b:02.1") == 0600);
}

TEST_CASE_METHOD(State, "a state directory that others can write is refused") {
  const std::string state = directory->path() + "/other";
  std::filesystem::create_directory(state);
  CHECK(chmod(state.c_str(), 0777) == 0);
  CHECK_THROWS_AS(Journal(state), Error);
  CHECK(chmod(state.c_str(), 0755) == 0);
  CHECK(chown(state.c_str(), 1000, 0) == 0);
  CHECK_THROWS_AS(Journal(state), Error);
  CHECK(chown(state.c_str(), 0, 0) == 0);
  CHECK_NOTHROW(Journal(state));
  std::filesystem::create_directory_symlink(state, directory->path() + "/link");
  CHECK_THROWS_AS(Journal(directory->path() + "/link"), Error);
}

TEST_CASE("broken records say what is wrong") {
  const auto reason = [](const std::string& text) {
    try {
      parse_lease_record(text);
    } catch (const Error& error) {
      CHECK(error.code == ErrorCode::host);
      return error.why;
    }
    return std::string("accepted");
  };
  LeaseRecord record;
  record.berth.id = "x";
  const std::string good = to_json_text(record);
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const auto position = text.find(from);
    REQUIRE(position != std::string::npos);
    return text.replace(position, from.size(), to);
  };
  CHECK(reason(good) == "accepted");
  CHECK(reason("").find("parse error") != std::string::npos);
  CHECK(reason(good.substr(0, good.size() / 2)).find("parse error") != std::string::npos);
  CHECK(reason("[]") != "accepted");
  CHECK(reason(replaced("\"version\": 1", "\"version\": 2")).find("version is 2") != std::string::npos);
  CHECK(reason(replaced("parking", "napping")).find("napping") != std::string::npos);
  CHECK(reason(replaced("macvlan", "token")).find("token") != std::string::npos);
  CHECK(reason(replaced("\"netns_inode\": 0", "\"netns_inode\": \"a\"")) != "accepted");
  CHECK(reason(replaced("\"addresses\": []", "\"addresses\": [\"10.0.0.1\"]")).find("10.0.0.1") != std::string::npos);
  CHECK(reason(replaced("phase", "phrase")).find("phase") != std::string::npos);
}

TEST_CASE_METHOD(State, "records of another boot are absent, unreadable ones are quarantined") {
  LeaseRecord record = full_record(journal);
  CHECK_FALSE(journal.read(record.berth.id));
  record.boot_id = "11111111-2222-3333-4444-555555555555";
  journal.write(record);
  CHECK_FALSE(journal.read(record.berth.id));
  CHECK(journal.held_devices(true).empty());

  std::ofstream(journal.state_directory() + "/leases/torn") << "{\"version\":";
  const auto torn = journal.read("torn");
  REQUIRE(torn);
  CHECK(torn->phase == Phase::quarantined);
  CHECK_FALSE(torn->reason.empty());
  const auto held = journal.held_devices(true);
  REQUIRE(held.size() == 1);
  CHECK(held[0].quarantined == torn->reason);
}

TEST_CASE_METHOD(State, "ids cannot leave their directory") {
  for (const char* id : {"", ".", "..", "../x", "a/b", ".hidden", "a b", "a\nb", "x.new"}) {
    INFO(id);
    CHECK_THROWS_AS(journal.try_lock_device(id), Error);
    CHECK_THROWS_AS(journal.read(id), Error);
  }
  CHECK_THROWS_AS(journal.try_lock_device(std::string(201, 'x')), Error);
}

TEST_CASE_METHOD(State, "a device lock excludes others until its last copy is closed") {
  CHECK_FALSE(journal.is_locked("d"));
  {
    auto lock = journal.try_lock_device("d");
    REQUIRE(lock);
    CHECK(journal.is_locked("d"));
    CHECK_FALSE(journal.try_lock_device("d"));
    Child copy([] {});
    lock.reset();
    CHECK(journal.is_locked("d"));
    copy.kill();
    CHECK_FALSE(journal.is_locked("d"));
  }
  Child other([&] {
    static auto lock = journal.try_lock_device("d");
    if (!lock) _exit(1);
  });
  CHECK_FALSE(journal.try_lock_device("d"));
  other.kill();
  CHECK(journal.try_lock_device("d"));
}

TEST_CASE_METHOD(State, "whoever removes a device does not leave two owners behind") {
  auto first = journal.try_lock_device("d");
  journal.write([&] {
    LeaseRecord record;
    record.berth.id = "d";
    record.boot_id = journal.boot_id();
    return record;
  }());
  journal.remove("d");
  CHECK(journal.traces().empty());
  // The lock file has lost its name, so the old lock protects nothing: a new one can be had, and only once.
  auto second = journal.try_lock_device("d");
  REQUIRE(second);
  first.reset();
  CHECK_FALSE(journal.try_lock_device("d"));

  // Removers and lockers at full speed: never two owners at once.
  second.reset();
  const std::string flag = directory->path() + "/owned";
  const auto contend = [&](int) {
    for (int i = 0; i < 400; ++i) {
      const auto lock = journal.try_lock_device("d");
      if (!lock) continue;
      const UniqueFd owned(open(flag.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
      if (!owned) return false;
      unlink(flag.c_str());
      journal.remove("d");
    }
    return true;
  };
  CHECK(testing::count_successes(4, contend) == 4);
}

TEST_CASE_METHOD(State, "the node lock is waited for") {
  const std::string mark = directory->path() + "/mark";
  auto lock = std::make_optional(journal.lock_node());
  int started[2];
  REQUIRE(pipe(started) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    lock.reset();  // only the child's copy of the descriptor
    if (write(started[1], "x", 1) != 1) _exit(1);
    const Lock mine = journal.lock_node();
    std::ofstream(mark) << "locked";
    _exit(0);
  }
  char byte = 0;
  REQUIRE(read(started[0], &byte, 1) == 1);
  CHECK_FALSE(std::filesystem::exists(mark));
  lock.reset();
  int status = 1;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
  CHECK(std::filesystem::exists(mark));
  close(started[0]);
  close(started[1]);
}

TEST_CASE_METHOD(State, "the inventory learns who holds what") {
  LeaseRecord record = full_record(journal);
  journal.write(record);
  {
    const auto unheld = journal.held_devices(true);
    REQUIRE(unheld.size() == 1);
    CHECK(unheld[0].parked);
    CHECK_FALSE(unheld[0].leased);
    CHECK(unheld[0].holder.empty());
    CHECK(journal.held_devices(false)[0].leased);
  }
  const auto lock = journal.try_lock_device(record.berth.id);
  const auto held = journal.held_devices(true);
  CHECK(held[0].leased);
  CHECK(held[0].holder == "job 4711.0 (alice)");
}
