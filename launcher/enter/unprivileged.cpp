#include "launcher/enter/unprivileged.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "launcher/enter/enter.hpp"
#include "launcher/enter/rank_process.hpp"
#include "launcher/enter/run_holder.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/user_namespace.hpp"

namespace berth {

namespace {

/// A holder that takes no more ranks when this one comes is replaced by a new one; this often is no coincidence.
constexpr int kMostHolders = 8;

void say(const std::string& text) { fmt::print(stderr, "{}\n", text); }

void enter_run(const RunTask& task, std::uint64_t digest, Entry& entry) {
  for (int attempt = 0; attempt < kMostHolders; ++attempt) {
    if (request_entry(entry, connect_or_start_holder(digest, task),
                      {{"local_rank", task.context.local_rank},
                       {"rank", task.context.rank},
                       {"cpus", to_string(read_affinity())}},
                      say))
      return;
  }
  throw Error(ErrorCode::internal, "cannot run this rank", "the process that plans it ended without an answer",
              "see the kernel's log: it may have run out of memory");
}

/// As far as a user may.
void raise_memlock(std::uint64_t bytes) {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(bytes, limit.rlim_max);
  setrlimit(RLIMIT_MEMLOCK, &limit);
}

void give_up_rights(Entry& entry) {
  if (entry.rootfs) {
    join_user_namespace_of(entry.rootfs.get());
    entry.rootfs.reset();
  } else if (geteuid() != 0) {  // who has a bounding set and no capability can neither use nor empty it
    clear_capabilities();
    return set_no_new_privs();
  }
  drop_to_user(read_credentials());
}

void run(const RunCall& call, const std::string& obstacle, Entry& entry, int& exit_code) {
  auto environment = call.environment;
  const RunTask task{.request = call.request,
                     .net_is_given = std::ranges::any_of(call.options, [](const auto& o) { return o.first == "net"; }),
                     .context = call.context,
                     .user = read_credentials(),
                     .environment = environment,
                     .obstacle = obstacle};
  open_missing_streams();
  close_inherited(task.context.pmi_fd);
  enter_run(task, digest_run(task.user, call), entry);
  if (entry.grant.memlock) raise_memlock(*entry.grant.memlock);
  give_up_rights(entry);
  settle(entry, {});
  apply_environment(environment, entry.grant.environment);
  if (entry.grant.verbose)
    say(fmt::format("berth: {}\nberth: rank {}: phases in ms: {}", entry.grant.summary, task.context.rank,
                    entry.phases));
  exec_command(call.command, environment, exit_code);
}

}  // namespace

int run_unprivileged(const RunCall& call, const std::string& obstacle) {
  int exit_code = kExitRefused;
  Entry entry;
  try {
    run(call, obstacle, entry, exit_code);
  } catch (const Error& error) {
    if (!entry.heard) say(error.render());
  }
  return exit_code;
}

}  // namespace berth
