// The process that `berth run` is: what it brings along from its launcher, and its exec. For berth-enter and for ranks
// without its rights alike.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "launcher/core/environment.hpp"
#include "launcher/enter/run_call.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

/// What the program with all verbs calls berth-enter (argv[0]) when it has put a command line into plain words.
constexpr const char* kEnterByBerth = "berth-enter";

/// "NAME=VALUE" each: the environment that the program was started with. The C library takes variables away from a
/// setuid program (LD_LIBRARY_PATH), which the rank is to have. Throws Error{usage} where there is not even a name in
/// argv.
std::vector<std::string> read_initial_environment(int argc, char** argv);

/// A closed standard stream would be the next file that is opened, and the rank would write into it. Throws
/// Error{host}.
void open_missing_streams();

/// Closes what the caller left open but for the launcher's own socket, whose number is `pmi_fd` ("": none). Before
/// anything of ours is opened. Throws Error{host}.
void close_inherited(const std::string& pmi_fd);

/// "NAME=VALUE" each; of several with one name the first counts.
std::map<std::string, std::string> parse_environment(const std::vector<std::string>& variables);

/// Where PMIx servers put what they share with their ranks, as the variables of a rank say it.
std::vector<std::string> find_session_directories(const std::map<std::string, std::string>& environment);

/// What tells this rank's run and wishes from all others of the same user. Where two runs collide they only wait for
/// each other's ranks.
std::uint64_t digest_run(const Credentials& user, const RunCall& call);

/// Turns the caller's variables into the rank's.
void apply_environment(std::map<std::string, std::string>& environment, const RankEnvironment& changes);

/// Becomes the rank's command, looked for in the present root. Throws Error{image} with the exit code to use in
/// `exit_code` (126 or 127).
[[noreturn]] void exec_command(const std::vector<std::string>& command,
                               const std::map<std::string, std::string>& environment, int& exit_code);

}  // namespace berth
