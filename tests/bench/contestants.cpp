#include "tests/bench/contestants.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "launcher/enter/enter.hpp"
#include "launcher/image/rootfs.hpp"
#include "launcher/system/affinity.hpp"
#include "launcher/system/privileges.hpp"
#include "tests/bench/crowd.hpp"

namespace berth::bench {

namespace {

void become(const Credentials& user) {
  if (setgroups(user.groups.size(), user.groups.data()) != 0 || setresgid(user.gid, user.gid, user.gid) != 0 ||
      setresuid(user.uid, user.uid, user.uid) != 0)
    throw system_error(errno, "cannot become the user", "setresuid");
}

/// Memory that child processes write and this one reads.
class SharedPhases {
 public:
  explicit SharedPhases(std::size_t count)
      : size_(count * sizeof(RankPhases)),
        memory_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw system_error(errno, "cannot measure", "mmap");
  }
  ~SharedPhases() { munmap(memory_, size_); }
  SharedPhases(const SharedPhases&) = delete;
  SharedPhases& operator=(const SharedPhases&) = delete;
  RankPhases& operator[](std::size_t i) { return static_cast<RankPhases*>(memory_)[i]; }

 private:
  std::size_t size_;
  void* memory_;
};

}  // namespace

std::vector<Contestant> make_rivals(const Setting& setting) {
  return {
      {"plain exec", false, {setting.directory + "/bin/true"}},
      {"bubblewrap, directory",
       false,
       {"/usr/bin/bwrap", "--ro-bind", setting.directory, "/", "--dev", "/dev", "--proc", "/proc", "/bin/true"}},
      {"Charliecloud, directory", false, {"/usr/bin/ch-run", setting.directory, "--", "/bin/true"}},
      {"Charliecloud, squashfs", true, {"/usr/bin/ch-run", setting.squashfs, "--", "/bin/true"}},
  };
}

void exec_contestant(const Setting& setting, const Contestant& contestant) {
  become(setting.user);
  const std::string name = "USER=" + setting.user_name;
  std::vector<const char*> arguments;
  for (const std::string& argument : contestant.arguments) arguments.push_back(argument.c_str());
  arguments.push_back(nullptr);
  const char* const environment[] = {"PATH=/usr/bin:/bin", "HOME=/", name.c_str(), nullptr};
  execve(arguments[0], const_cast<char* const*>(arguments.data()), const_cast<char* const*>(environment));
  throw system_error(errno, "cannot start a contestant", fmt::format("execve {}", arguments[0]));
}

Template make_template(const Setting& setting, const std::string& image) {
  const ImagePolicy images{{"/"}, KernelMount::trusted};
  const MountPolicy mounts;
  Template result;
  const double start = now_ms();
  const OpenImage opened = open_image(image, "/", setting.user, images);
  const double middle = now_ms();
  result.rootfs = build_rootfs({.image = &opened,
                                .user = setting.user,
                                .user_name = setting.user_name,
                                .home = "/home",
                                .working_directory = "/tmp",
                                .mounts = {},
                                .runtime_directories = {},
                                .session_directories = {},
                                .policy = &mounts});
  result.open_ms = middle - start;
  result.build_ms = now_ms() - middle;
  return result;
}

double run_in_berths(const Setting& setting, const Berths& berths, const UniqueFd& rootfs,
                     std::vector<RankPhases>& phases) {
  const std::size_t count = berths.held().size();
  SharedPhases shared(count);
  const auto enter = [&](int i) {
    const auto rank = static_cast<std::size_t>(i);
    Entry entry;
    entry.grant.pin_cpus = read_affinity(getpid());
    entry.grant.working_directory = "/";
    entry.netns = UniqueFd(fcntl(berths.held()[rank].netns.get(), F_DUPFD_CLOEXEC, 3));
    entry.rootfs = UniqueFd(fcntl(rootfs.get(), F_DUPFD_CLOEXEC, 3));
    enter_as_root(entry);
    prepare_drop_to_user();
    become(setting.user);
    enter_as_user(entry, setting.user.uid, setting.user.gid, {});
    if (std::sscanf(entry.phases.c_str(), "netns %lf, rootfs %lf", &shared[rank].netns, &shared[rank].rootfs) != 2)
      throw Error(ErrorCode::internal, "cannot measure", fmt::format("unknown phases '{}'", entry.phases));
    const char* const arguments[] = {"/bin/true", nullptr};
    const char* const environment[] = {"PATH=/usr/bin:/bin", nullptr};
    execve(arguments[0], const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
    throw system_error(errno, "cannot run /bin/true in the berth", "execve");
  };
  const double elapsed = Crowd(
                             static_cast<int>(count), [](int) {}, enter)
                             .run_until_ended();
  phases.clear();
  for (std::size_t i = 0; i < count; ++i) phases.push_back(shared[i]);
  return elapsed;
}

}  // namespace berth::bench
