// What is compared: ways to start a command in a container image. All run the same command from the same image, as an
// ordinary user.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launcher/image/image.hpp"
#include "launcher/system/fd.hpp"
#include "tests/bench/berths.hpp"

namespace berth::bench {

/// The image in both forms, and who runs it.
struct Setting {
  std::string directory;  ///< of images/tiny, owned by root
  std::string squashfs;
  Credentials user;
  std::string user_name;
};

/// A way to start /bin/true that needs no preparation.
struct Contestant {
  std::string name;
  bool is_slow = false;  ///< not in every round
  std::vector<std::string> arguments;
};
std::vector<Contestant> make_rivals(const Setting& setting);

/// Becomes the user and then the contestant. Does not return; throws Error{host}.
void exec_contestant(const Setting& setting, const Contestant& contestant);

/// A step's template root, and what it took the broker to make it.
struct Template {
  UniqueFd rootfs;
  double open_ms = 0;   ///< finding and checking the image
  double build_ms = 0;  ///< mounting it and building the root
};
Template make_template(const Setting& setting, const std::string& image);

/// Milliseconds that each rank spent in its phases.
struct RankPhases {
  double netns = 0;
  double rootfs = 0;
};

/// Starts /bin/true in as many berths as are held, at once, from the grant on; the phases go to `phases`. Milliseconds
/// until the last one has ended.
double run_in_berths(const Setting& setting, const Berths& berths, const UniqueFd& rootfs,
                     std::vector<RankPhases>& phases);

}  // namespace berth::bench
