// Profiles of Onload: files NAME.opf of lines `onload_set NAME VALUE` and `onload_import OTHER`. For the `onload`
// command they are shell scripts; here they are data, and what is more than these two is refused. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core/request.hpp"

namespace berth {

struct OnloadProfile {
  std::string path;  ///< for messages
  std::string text;
};
/// Finds a profile by its name; `imported`: another one asks for it, which may be a fragment (NAME.opf-fragment), too.
using OnloadProfileReader = std::function<std::optional<OnloadProfile>(const std::string& name, bool imported)>;

/// The EF_… variables that the profiles set, in their order. As with the command, what is set first stays. Throws
/// Error{host} with file and line for anything that is neither of these lines with plain values, and for imports that
/// `read` does not find or that lead in a circle.
std::vector<EnvironmentChange> collect_onload_settings(const std::vector<std::string>& profiles,
                                                       const OnloadProfileReader& read);

}  // namespace berth
