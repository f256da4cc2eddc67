// Images that stay mounted from run to run, as devices stay parked: what the kernel has read and decompressed of one is
// there for the next run, which need not mount it either.
//
// STATE/images/KEY  (in a directory of root's) a mount of the image whose file KEY identifies: device, inode and time
// of
//                   the last change. A file that was replaced or written to since has another key, and is mounted by
//                   each run until it is parked again. Mounts are all that there is: a reboot leaves nothing.
#pragma once

#include <string>
#include <vector>

#include "launcher/image/image.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

struct ParkedImage {
  std::string key;
  std::string path;  ///< real path of its file when it was parked
};

std::string parking_key(const OpenImage& image);

/// Mounts the image, which the caller has opened with root's rights, for all runs to come; says whether it had to.
/// Throws Error{usage} for a directory, which nobody has to mount, Error{policy} for an image that the kernel
/// must not or cannot mount, and what mount_image() throws.
bool park_image(const std::string& state_directory, const OpenImage& image);

/// A detached mount of the image, private and as mount_image() makes it; an empty descriptor if it is not parked, or
/// has changed since.
UniqueFd clone_parked_image(const std::string& state_directory, const OpenImage& image);

/// Whether clone_parked_image() would find the file at `path`.
bool is_parked(const std::string& state_directory, const std::string& path);

/// In the order of their paths; also those of files that have changed or are gone. None for others than root.
std::vector<ParkedImage> read_parked_images(const std::string& state_directory);

/// Unmounts it. Runs that began before keep it until their end. Throws Error{host}.
void unpark_image(const std::string& state_directory, const ParkedImage& image);

}  // namespace berth
