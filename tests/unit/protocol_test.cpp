#include "launcher/broker/protocol.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>

#include "launcher/broker/relay.hpp"

namespace berth {
namespace {

TEST_CASE("a message crosses with its descriptors, which do not survive exec") {
  auto [a, b] = make_socket_pair();
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  send_message(a.get(), {{"local_rank", 3}}, {null.get(), null.get()});
  const auto message = receive_message(b.get());
  REQUIRE(message);
  CHECK(message->body.at("local_rank") == 3);
  REQUIRE(message->fds.size() == 2);
  CHECK((fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  a.reset();
  CHECK_FALSE(receive_message(b.get()));
}

TEST_CASE("what is no message of ours is refused, not believed") {
  auto [a, b] = make_socket_pair();
  const auto send_text = [&a = a](const std::string& text) {
    REQUIRE(send(a.get(), text.data(), text.size(), 0) >= 0);
  };
  send_text("{\"local_rank\": ");
  CHECK_THROWS_AS(receive_message(b.get()), Error);
  send_text("[1, 2]");
  const auto array = receive_message(b.get());
  REQUIRE(array);
  CHECK_THROWS_AS(parse_rank_record(array->body), Error);
  CHECK_THROWS_AS(parse_rank_record({{"local_rank", 1}, {"pid", 2}, {"cpus", "5-2"}}), Error);
  CHECK_THROWS_AS(parse_rank_record({{"local_rank", "x"}, {"pid", 2}, {"cpus", "0"}}), Error);
  CHECK_THROWS_AS(parse_step_record({{"job", 1}}), Error);
  CHECK_THROWS_AS(parse_grant({{"has_netns", true}}), Error);
}

TEST_CASE("records cross unchanged") {
  StepRecord step{.job = 4711,
                  .step = 2,
                  .uid = 1000,
                  .gid = 100,
                  .groups = {100, 200},
                  .slurm_conf = "/etc/slurm/slurm.conf",
                  .node = "n1",
                  .runtime_directories = {"/var/spool/pmix.4711.2"},
                  .ranks = {4, 5},
                  .request = {}};
  step.request.image = "/images/a.sif";
  step.request.mounts = {{"/data", "/in", true}};
  step.request.environment = {{EnvironmentChange::Action::unset, "A", ""}};
  step.request.pin = Pin::cpus_and_memory;
  step.request.net = NetScope::node;
  step.request.wait_seconds = 7;
  step.request.stats = "%N.json";
  step.request.devices = 2;
  step.request.gpus = {"1", "0000:07:00.0"};
  step.request.onload = {"latency"};
  const StepRecord again = parse_step_record(to_json_value(step));
  CHECK(again.job == 4711);
  CHECK(again.groups == step.groups);
  CHECK(again.ranks == step.ranks);
  CHECK(again.runtime_directories == step.runtime_directories);
  CHECK(again.request == step.request);

  Grant grant;
  grant.has_netns = true;
  grant.shares_rootfs = true;
  grant.pin_cpus = CpuSet::range(2, 3);
  grant.memlock = UINT64_MAX;
  grant.tested_devices = {"onload"};
  grant.environment.facts = {{EnvironmentChange::Action::set, "BERTH_RANK", "4"}};
  grant.rdma.resize(2);
  grant.rdma[0].device = "mlx5_2";
  grant.rdma[1].device = "mlx5_3";
  grant.rdma[1].port = 2;
  const Grant granted = parse_grant(to_json_value(grant));
  CHECK(granted.has_netns);
  CHECK_FALSE(granted.has_relay);
  CHECK(granted.shares_rootfs);
  CHECK(granted.pin_cpus == grant.pin_cpus);
  CHECK(granted.rdma == grant.rdma);
  CHECK(granted.memlock == grant.memlock);
  CHECK(granted.tested_devices == grant.tested_devices);
  CHECK(granted.environment.facts == grant.environment.facts);
}

TEST_CASE("the port of a PMIx server is read from its URI, and only from a loopback one") {
  CHECK(parse_pmix_port("pmix-server.4711;tcp4://127.0.0.1:43565") == 43565);
  CHECK_FALSE(parse_pmix_port("pmix-server.4711;tcp4://10.0.0.1:43565"));
  CHECK_FALSE(parse_pmix_port("pmix-server.4711;tcp4://127.0.0.1:"));
  CHECK_FALSE(parse_pmix_port("pmix-server.4711;tcp4://127.0.0.1:0"));
  CHECK_FALSE(parse_pmix_port("pmix-server.4711;tcp4://127.0.0.1:99999"));
  CHECK_FALSE(parse_pmix_port(""));
}

}  // namespace
}  // namespace berth
