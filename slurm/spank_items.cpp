#include "slurm/spank_items.hpp"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "launcher/core/error.hpp"
#include "launcher/system/host_name.hpp"

// Slurm's own configuration, exported by the slurmstepd that loads us. Weak, so that the plugin still loads where a
// newer Slurm hides it; the layout is that of the headers, and Slurm refuses plugins built against other headers.
extern "C" {
extern slurm_conf_t slurm_conf __attribute__((weak));
}

namespace berth {

namespace {

template <typename... Value>
void get_item(spank_t spank, spank_item_t item, const char* name, Value... value) {
  const spank_err_t error = spank_get_item(spank, item, value...);
  if (error != ESPANK_SUCCESS)
    throw Error(ErrorCode::internal, fmt::format("cannot get {} from Slurm", name), spank_strerror(error));
}

/// "SPOOL/NODE_JOB.STEP" of the socket that slurmstepd listens on; empty if there is none.
std::string read_step_socket_path() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return {};
  std::string path;
  while (const dirent* entry = readdir(directory)) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    const int fd = std::atoi(entry->d_name);
    int listening = 0;
    socklen_t flag_size = sizeof listening;
    if (fd > 2 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &flag_size) == 0 && listening != 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 && address.sun_family == AF_UNIX &&
        address.sun_path[0] == '/') {
      path = address.sun_path;
      break;
    }
  }
  closedir(directory);
  return path;
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace

SpankJob read_spank_job(spank_t spank) {
  SpankJob job;
  uid_t uid = 0;
  gid_t gid = 0;
  gid_t* groups = nullptr;
  int group_count = 0;
  std::uint32_t tasks = 0;
  get_item(spank, S_JOB_UID, "the user", &uid);
  get_item(spank, S_JOB_GID, "the group", &gid);
  get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, "the groups", &groups, &group_count);
  get_item(spank, S_JOB_ID, "the job", &job.job);
  get_item(spank, S_JOB_STEPID, "the step", &job.step);
  get_item(spank, S_JOB_LOCAL_TASK_COUNT, "the number of tasks", &tasks);
  job.uid = uid;
  job.gid = gid;
  job.local_tasks = tasks;
  if (group_count > 0) job.groups.assign(groups, groups + group_count);
  for (std::uint32_t task = 0; task < tasks; ++task) {
    std::uint32_t rank = 0;
    get_item(spank, S_JOB_LOCAL_TO_GLOBAL_ID, "the rank", task, &rank);
    job.ranks.push_back(rank);
  }
  return job;
}

bool is_user_step(spank_t spank) {
  std::uint32_t step = 0;
  return spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS && step < 0xfffffff0U;
}

unsigned read_local_task(spank_t spank) {
  int task = 0;
  get_item(spank, S_TASK_ID, "the task", &task);
  return static_cast<unsigned>(task);
}

int read_task_pid(spank_t spank) {
  pid_t pid = 0;
  get_item(spank, S_TASK_PID, "the task's process", &pid);
  return pid;
}

std::map<std::string, std::string> read_job_environment(spank_t spank) {
  char** entries = nullptr;
  get_item(spank, S_JOB_ENV, "the environment", &entries);
  std::map<std::string, std::string> environment;
  for (char** entry = entries; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

std::vector<std::string> read_arguments(spank_t spank) {
  int count = 0;
  char** arguments = nullptr;
  get_item(spank, S_JOB_ARGV, "the command", &count, &arguments);
  return {arguments, arguments + count};
}

std::vector<std::string> pmix_directories(const SpankJob& job, const std::string& node) {
  std::vector<std::string> directories;
  const std::string step_socket = read_step_socket_path();
  if (const std::size_t slash = step_socket.rfind('/'); slash != std::string::npos && slash > 0)
    directories.push_back(fmt::format("{}/pmix.{}.{}", step_socket.substr(0, slash), job.job, job.step));
  if (&slurm_conf != nullptr && slurm_conf.tmp_fs != nullptr) {
    std::array<char, 256> host{};
    gethostname(host.data(), host.size() - 1);
    const std::string base = replace_all(replace_all(slurm_conf.tmp_fs, "%n", node), "%h", host.data());
    directories.push_back(fmt::format("{}/spmix_appdir_{}_{}.{}", base, job.uid, job.job, job.step));
  }
  return directories;
}

std::string read_node_name() {
  const std::string path = read_step_socket_path();
  const std::size_t slash = path.rfind('/');
  const std::size_t underscore = path.rfind('_');
  if (slash != std::string::npos && underscore != std::string::npos && underscore > slash + 1)
    return path.substr(slash + 1, underscore - slash - 1);
  return read_host_name();
}

}  // namespace berth
