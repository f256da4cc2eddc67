#include "launcher/enter/enter.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "launcher/broker/relay.hpp"
#include "launcher/enter/self_test.hpp"
#include "launcher/image/rdma_view.hpp"
#include "launcher/image/rootfs.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

namespace {

class PhaseClock {
 public:
  explicit PhaseClock(std::string& phases) : phases_(phases) {}
  void end(const char* name) {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double, std::milli> elapsed = now - start_;
    start_ = now;
    phases_ += fmt::format("{}{} {:.2f}", phases_.empty() ? "" : ", ", name, elapsed.count());
  }

 private:
  std::string& phases_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void raise_memlock(std::uint64_t bytes) {
  const rlimit limit{bytes, bytes};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
    throw system_error(errno, "cannot set the limit of locked memory that the policy asks for",
                       fmt::format("setrlimit(RLIMIT_MEMLOCK, {})", bytes),
                       "remove limits.memlock from the policy, or give slurmd CAP_SYS_RESOURCE");
}

}  // namespace

Error broker_ended() {
  return {ErrorCode::internal, "cannot enter the berth", "the broker of this step ended",
          "see the system log of the node (berth-broker)"};
}

bool request_entry(Entry& entry, UniqueFd broker, const nlohmann::json& hello, void (*say)(const std::string&),
                   const std::vector<int>& fds) {
  PhaseClock clock(entry.phases);
  entry.broker = std::move(broker);
  try {
    send_message(entry.broker.get(), hello, fds);
  } catch (const Error&) {  // closed already
    return false;
  }
  for (;;) {
    auto answer = receive_message(entry.broker.get());
    if (!answer) return false;
    if (answer->body.contains("waiting")) {
      say(answer->body["waiting"].get<std::string>());
      continue;
    }
    entry.heard = answer->body.value("heard", false);
    if (answer->body.contains("error")) throw parse_error(answer->body);
    entry.grant = parse_grant(answer->body);
    auto next = answer->fds.begin();
    for (auto [flag, fd] :
         {std::pair{entry.grant.has_netns, &entry.netns}, std::pair{entry.grant.has_rootfs, &entry.rootfs},
          std::pair{entry.grant.has_relay, &entry.relay}}) {
      if (!flag) continue;
      if (next == answer->fds.end())
        throw Error(ErrorCode::internal, "cannot enter the berth", "the broker's answer lacks a descriptor");
      *fd = std::move(*next++);
    }
    clock.end("wait");
    return true;
  }
}

void enter_as_root(Entry& entry) {
  PhaseClock clock(entry.phases);
  if (entry.grant.memlock) raise_memlock(*entry.grant.memlock);
  // The network namespace first: a sysfs shows the network namespace of the process that mounts it.
  if (entry.netns && setns(entry.netns.get(), CLONE_NEWNET) != 0)
    throw system_error(errno, "cannot enter the berth's network namespace", "setns");
  clock.end("netns");
  if (entry.rootfs) {
    enter_rootfs(entry.rootfs.get(), entry.grant.shares_rootfs);
  } else if (entry.netns || !entry.grant.rdma.empty()) {
    enter_host_tree();
  }
  if (!entry.grant.rdma.empty()) apply_rdma_view(entry.grant.rdma);
  clock.end("rootfs");
  entry.netns.reset();
  entry.rootfs.reset();
}

void enter_as_user(Entry& entry, std::uint32_t uid, std::uint32_t gid, const std::string& pmix_uri) {
  verify_unprivileged(uid, gid);
  settle(entry, pmix_uri);
}

void settle(Entry& entry, const std::string& pmix_uri) {
  const Grant& grant = entry.grant;
  for (const RdmaGrant& rdma : grant.rdma)
    if (rdma.self_test) run_self_test(rdma, grant.memlock);
  run_onload_self_test(grant.tested_devices);
  if (const auto port = parse_pmix_port(pmix_uri); port && entry.relay) offer_pmix_listener(entry.relay.get(), *port);
  if (!grant.pin_cpus.empty()) apply_affinity(grant.pin_cpus);
  if (!grant.pin_memory.empty()) apply_memory_nodes(grant.pin_memory);
  if (!grant.rdma.empty() && !grant.rdma.front().selinux_label.empty())
    apply_exec_label(grant.rdma.front().selinux_label);
  if (chdir(grant.working_directory.c_str()) == 0) return;
  if (grant.working_directory_required || chdir("/") != 0)
    throw system_error(errno, fmt::format("cannot start in '{}'", grant.working_directory), "chdir",
                       "give --rdma-workdir a directory of the image, or mount one there with --rdma-mount");
}

void confirm_entry(Entry& entry) {
  send_message(entry.broker.get(), {{"entered", true}});
  if (entry.grant.rdma.empty()) return;
  const auto answer = receive_message(entry.broker.get());
  if (!answer) throw broker_ended();
  if (answer->body.contains("error")) throw parse_error(answer->body);
}

std::string find_command(const std::string& command, const std::string& path, int& exit_code) {
  exit_code = kExitNotFound;
  const auto runnable = [&exit_code](const std::string& file) {
    struct stat status {};
    if (stat(file.c_str(), &status) != 0) return false;
    if (S_ISREG(status.st_mode) && access(file.c_str(), X_OK) == 0) return true;
    exit_code = kExitNotExecutable;
    return false;
  };
  if (command.empty() || command.find('/') != std::string::npos) {
    if (runnable(command)) return command;
  } else {
    for (std::size_t begin = 0; begin <= path.size();) {
      const std::size_t end = std::min(path.find(':', begin), path.size());
      const std::string directory = path.substr(begin, end - begin);
      if (std::string file = (directory.empty() ? "." : directory) + "/" + command; runnable(file)) return file;
      begin = end + 1;
    }
  }
  const bool missing = exit_code == kExitNotFound;
  throw Error(ErrorCode::image, fmt::format("cannot run '{}' in the container", command),
              missing ? fmt::format("the image has no such program{}",
                                    command.find('/') == std::string::npos ? fmt::format(" in PATH={}", path) : "")
                      : "it is there, but not an executable file",
              "give the path that the program has inside the image, or mount it with --rdma-mount");
}

}  // namespace berth
