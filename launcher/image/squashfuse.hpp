// Squashfs served by an unprivileged process, for images that the kernel must not parse.
#pragma once

#include "launcher/image/image.hpp"

namespace berth {

/// Mounts the squashfs in `image` (detached, read-only, nosuid, nodev) through FUSE; the server runs as `user` with no
/// privileges in the control group that `cgroup` is of (join_cgroup()), and ends with the last mount or when its own
/// process is killed, whatever becomes of the caller. Returns when the server answers. Throws Error{image} with the
/// server's words if it cannot read the image, Error{host} if the program squashfuse or /dev/fuse is missing.
UniqueFd mount_with_squashfuse(const OpenImage& image, const Credentials& user, int cgroup);

}  // namespace berth
