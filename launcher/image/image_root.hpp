// The image as the lower part of a rank's root: where paths lead inside it, and an overlay for what it lacks.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "launcher/system/fd.hpp"
#include "launcher/system/privileges.hpp"

namespace berth {

/// Where a path leads inside an image, all symlinks followed within it.
struct ImagePath {
  std::string path;     ///< absolute, no symlinks, no ".."
  bool exists = false;  ///< else nothing is there: some of the last components are missing
  bool is_directory = false;
};

/// Throws Error{image} naming `target` where it runs through a file, too many links or an unreadable directory.
ImagePath resolve_in_image(int root, const std::string& target);

/// Throws Error{image} if /dev, /proc, /sys or /etc exists in the image and is no directory.
void check_image_layout(int root, const std::string& image_path);

/// A regular file of the image, at most 1 MiB, read with the user's rights (in a directory image it could be a link to
/// another user's file); "" if it is missing. Throws Error{image} for a FIFO, a device, a giant or an unreadable file.
std::string read_image_file(int root, const std::string& path, const Credentials& user);

/// Makes `path` (and its parents, which look like the image's where it has them) below `skeleton`, an empty directory
/// or file that the overlay will show where the image has nothing.
void add_to_skeleton(int skeleton, int image_root, const ImagePath& path);

/// Gives `path` below `directory` the mode of `from`, and its owner as far as the caller's user namespace knows it.
/// Throws Error{host}.
void copy_owner_and_mode(const struct stat& from, int directory, const std::string& path);

/// The names of the directories at the top of the image in which there is something and `skeleton` has nothing: an
/// overlay shows them as they are. Those that cannot be read are left out.
std::vector<std::string> find_untouched_directories(int skeleton, int image_root);

/// A read-only union of `skeleton` over `image`, detached. Both must be attached in the caller's mount namespace.
UniqueFd overlay_skeleton(int skeleton, int image_root);

}  // namespace berth
