// The user database files of the container: the image's own, plus the user who runs the job.
#pragma once

#include <string>

#include "launcher/system/privileges.hpp"

namespace berth {

/// `passwd` with a line for the user in front, unless it has one with this name and uid. A name or home that would
/// break the format is not added.
std::string add_user_line(const std::string& passwd, const std::string& name, const Credentials& user,
                          const std::string& home);

/// `group` with lines for the user's groups that it lacks by number; names come from `host_group` (the host's
/// /etc/group), else they are the user's own name for the primary group and "gNUMBER" for others.
std::string add_group_lines(const std::string& group, const std::string& host_group, const std::string& user_name,
                            const Credentials& user);

}  // namespace berth
