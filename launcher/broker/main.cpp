// berth-broker: started as root by slurmstepd, berth-enter or the OCI hook, never by hand. Descriptor 3 leads to the
// launcher, descriptor 4 is the socket on which the ranks connect; a container has none.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <string_view>

#include "launcher/broker/hold.hpp"
#include "launcher/broker/step.hpp"

namespace {

constexpr int kControl = 3;
constexpr int kListener = 4;

bool is_socket(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || !is_socket(kControl)) {
    fmt::print(stderr, "berth-broker: this program is started by the Slurm plugin, berth-enter and the OCI hook\n");
    return berth::kExitRefused;
  }
  fcntl(kControl, F_SETFD, FD_CLOEXEC);
  fcntl(kListener, F_SETFD, FD_CLOEXEC);
  // Whoever ends the step closes the control socket; a stray signal must not leave devices half moved.
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM})
    signal(number, SIG_IGN);
  openlog("berth-broker", LOG_PID, LOG_DAEMON);
  try {
    if (is_socket(kListener))
      berth::Step(berth::UniqueFd(kControl), berth::UniqueFd(kListener),
                  {.policy_path = argv[1], .state_directory = argv[2]})
          .run();
    else
      berth::hold_for_container(berth::UniqueFd(kControl), argv[1], argv[2]);
    return 0;
  } catch (const berth::Error& error) {
    syslog(LOG_ERR, "%s", error.render().c_str());
  } catch (const std::exception& error) {
    syslog(LOG_ERR, "internal error: %s", error.what());
  }
  return berth::kExitRefused;
}
