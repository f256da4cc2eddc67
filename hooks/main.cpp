// berth-oci-hook: gives a container that is being made a device, and waits after its end until the device is home. OCI
// runtimes run it as root, with the container's state on standard input.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <syslog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>

extern "C" {  // glibc 2.36 forgets to say so itself
#include <sys/pidfd.h>
}

#include "hooks/container.hpp"
#include "launcher/broker/berth.hpp"
#include "launcher/broker/hold.hpp"
#include "launcher/broker/protocol.hpp"
#include "launcher/broker/start_broker.hpp"
#include "launcher/system/host_name.hpp"
#include "launcher/system/policy_file.hpp"
#include "launcher/system/process.hpp"

namespace berth {

namespace {

constexpr std::size_t kLargestState = 1U << 20U;
constexpr std::size_t kReadSize = 1U << 16U;
/// How long a device may take to come home; runtimes wait for their hooks without an end of their own.
constexpr int kHomePatienceMs = 15000;

struct HookOptions {
  std::string stage;
  BrokerProgram broker;
  std::string node;
};

std::string read_standard_input() {
  std::string text;
  std::string buffer(kReadSize, '\0');
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error(errno, "cannot read the container's state", "read");
    if (n == 0 || text.size() > kLargestState) return text;
    text.append(buffer, 0, static_cast<std::size_t>(n));
  }
}

/// Waits for the broker that the record speaks of; one that has died is not waited for.
void await_end(const ProcessIdentity& broker) {
  const UniqueFd process(pidfd_open(broker.pid, 0));
  try {
    if (!process || read_start_time(broker.pid) != broker.start_time) return;
  } catch (const Error&) {
    return;
  }
  pollfd ended{process.get(), POLLIN, 0};
  while (poll(&ended, 1, kHomePatienceMs) < 0 && errno == EINTR) continue;
}

/// Until no device of the container is away any more: its broker brings it home, or else this process does.
void await_home(const Journal& journal, const std::string& container) {
  const auto is_its = [&](const std::optional<LeaseRecord>& record) {
    return record && record->owner && record->owner->container == container;
  };
  for (const std::string& id : journal.ids())
    if (const auto record = journal.read(id); is_its(record)) await_end(record->owner->broker);
  repair_container(journal, container);
  for (const std::string& id : journal.ids()) {
    const auto record = journal.read(id);
    if (!is_its(record)) continue;
    throw Error(ErrorCode::host,
                fmt::format("cannot bring home device {} of container '{}'", id, short_container_id(container)),
                record->phase == Phase::quarantined ? record->reason : "its broker is still at it",
                "see the system log (berth-broker), then run: berth repair");
  }
}

void give_device(const HookOptions& options, const ContainerState& state) {
  const ContainerProcess container = open_container(state);
  // A container that is started again has the same id; its last device may still be on its way.
  await_home(Journal(options.broker.state_directory), state.id);
  const UniqueFd broker = start_broker(options.broker, UniqueFd());
  const HoldRecord record{.container = state.id,
                          .node = options.node,
                          .pid = state.pid,
                          .pool = state.request.pool,
                          .device = state.request.device,
                          .interface = state.request.interface,
                          .cpus = container.cpus};
  send_message(broker.get(), to_json_value(record), {container.process.get(), container.netns.get()});
  const auto answer = receive_message(broker.get());
  if (!answer)
    throw Error(ErrorCode::internal, fmt::format("cannot give container '{}' a device", short_container_id(state.id)),
                "its broker has ended without an answer", "see the system log (berth-broker)");
  if (answer->body.contains("error")) throw parse_error(answer->body);
  if (const HoldGrant grant = parse_hold_grant(answer->body); grant.rdma) make_device_nodes(state, grant.rdma->nodes);
}

void run_stage(const HookOptions& options) {
  const auto state = parse_container_state(read_standard_input(), kLargestState);
  if (!state) return;
  if (options.stage == "createRuntime") return give_device(options, *state);
  await_home(Journal(options.broker.state_directory), state->id);
}

}  // namespace

}  // namespace berth

int main(int argc, char** argv) {
  berth::HookOptions options{.stage = {},
                             .broker = {BERTH_LIBEXECDIR "/berth-broker", berth::kPolicyPath, berth::kStateDirectory},
                             .node = berth::read_host_name()};
  CLI::App app("OCI hook: gives a container a network device of its own, as its annotations and the policy say.",
               "berth-oci-hook");
  app.set_version_flag("--version", "berth-oci-hook " BERTH_VERSION);
  app.add_option("stage", options.stage, "when the runtime runs it; the container's state is on standard input")
      ->required()
      ->check(CLI::IsMember({"createRuntime", "poststop"}));
  app.add_option("--policy", options.broker.policy_path, "policy file")->capture_default_str();
  app.add_option("--state", options.broker.state_directory, "directory of leases and parked devices")
      ->capture_default_str();
  app.add_option("--node-name", options.node, "name of this node, which addresses are made from")
      ->capture_default_str();
  app.add_option("--broker", options.broker.path, "program that holds the device")->capture_default_str();
  app.footer(
      "Annotations: berth.pool=NAME, berth.device=ID (either is enough), berth.interface=NAME.\n"
      "Example:\n"
      "  sudo podman run --network=none --annotation berth.pool=fabric --annotation berth.interface=eth1 IMAGE\n"
      "berth-oci-hook(8) and docs/oci.md tell more.");
  CLI11_PARSE(app, argc, argv);
  openlog("berth-oci-hook", LOG_PID, LOG_DAEMON);
  try {
    berth::run_stage(options);
    return 0;
  } catch (const berth::Error& error) {
    // Some runtimes show what a hook says, others do not.
    syslog(LOG_ERR, "%s", error.render().c_str());
    fmt::print(stderr, "{}\n", error.render());
  } catch (const std::exception& error) {
    syslog(LOG_ERR, "internal error: %s", error.what());
    fmt::print(stderr, "berth: internal error: {}\n", error.what());
  }
  return 1;
}
