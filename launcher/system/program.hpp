// Finding and asking another program.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace berth {

/// The path of one of Berth's own programs: beside this one (proc(5), exe) if it is there, else where Berth is
/// installed. No variable and no option decides on it.
std::string find_program(const std::string& name);

/// The array that exec functions want, terminated; valid as long as `texts`.
std::vector<char*> pointers_to(const std::vector<std::string>& texts);

/// Runs `arguments` (the first is the program: a path, or a name that is looked for in the caller's own PATH) without a
/// shell, with no other environment than PATH (the system's directories), LC_ALL and `variables` ("NAME=VALUE"), and
/// returns what it wrote to standard output; its standard error is discarded. nullopt if it could not be run, failed,
/// or took longer than `patience`: then it is killed. Throws Error{host} if not even fork() works.
std::optional<std::string> read_program_output(const std::vector<std::string>& arguments,
                                               const std::vector<std::string>& variables,
                                               std::chrono::milliseconds patience);

}  // namespace berth
