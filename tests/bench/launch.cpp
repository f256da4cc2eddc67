// Measures on one node what it costs to start many ranks at once. Prints one JSON object per measurement:
//
//   bench_launch IMAGE-DIRECTORY IMAGE.sqsh USER ROUNDS [LARGEST]
//
//   {"what": "launch", "how": "plain exec", "ranks": 64, "ms": 12.3}
//
// Rounds are interleaved: in each of them everything is measured once, so that a busy moment of the machine hits all
// contestants alike. Runs as root, in namespaces of its own. Slow ones are left out of three rounds in four.
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tests/bench/berths.hpp"
#include "tests/bench/contestants.hpp"
#include "tests/bench/crowd.hpp"

namespace berth::bench {
namespace {

constexpr int kSlowEvery = 4;

void print(std::string_view what, std::string_view how, int ranks, double ms) {
  const nlohmann::ordered_json line{{"what", what}, {"how", how}, {"ranks", ranks}, {"ms", ms}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// One step of Berth, as the broker and its ranks do it, in its parts and as a whole.
void measure_step(const Setting& setting, Berths& berths, const std::string& image, const std::string& name,
                  int ranks) {
  Template root = make_template(setting, image);
  const double acquired = berths.acquire(static_cast<std::size_t>(ranks));
  std::vector<RankPhases> phases;
  const double launched = run_in_berths(setting, berths, root.rootfs, phases);
  const double released = berths.release_all();
  const double start = now_ms();
  root.rootfs.reset();  // the last descriptor: the mounts go, and the loop device
  const double dropped = now_ms() - start;
  print("launch", name, ranks, launched);
  print("launch", name + ", with the broker's work", ranks,
        root.open_ms + root.build_ms + acquired + launched + released + dropped);
  std::vector<double> netns;
  std::vector<double> rootfs;
  for (const RankPhases& rank : phases) {
    netns.push_back(rank.netns);
    rootfs.push_back(rank.rootfs);
  }
  print("rank: network namespace", name, ranks, median(netns));
  print("rank: root file system", name, ranks, median(rootfs));
  print("broker: open the image", name, ranks, root.open_ms);
  print("broker: build the root", name, ranks, root.build_ms);
  print("broker: adopt and lease", name, ranks, acquired);
  print("broker: release", name, ranks, released);
  print("broker: drop the root", name, ranks, dropped);
}

void measure_round(const Setting& setting, Berths& berths, int ranks, bool with_slow) {
  for (const Contestant& rival : make_rivals(setting)) {
    if (rival.is_slow && !with_slow) continue;
    const auto start = [&](int) { exec_contestant(setting, rival); };
    print("launch", rival.name, ranks,
          Crowd(
              ranks, [](int) {}, start)
              .run_until_ended());
  }
  measure_step(setting, berths, setting.directory, "Berth, directory", ranks);
  measure_step(setting, berths, setting.squashfs, "Berth, squashfs", ranks);
  berths.acquire(static_cast<std::size_t>(ranks));
  print("enter", "warm berths", ranks, enter_warm(berths, ranks));
  berths.release_all();
  if (!with_slow) return;
  print("enter", "premade NIC moved in", ranks, move_cold(ranks));
}

void measure(const Setting& setting, int rounds, int largest) {
  enter_site();
  Berths berths;
  for (int round = 0; round < rounds; ++round) {
    const bool with_slow = round % kSlowEvery == 0;
    if (with_slow) {
      berths.unpark_all();
      print("park", "cold", largest, berths.acquire(static_cast<std::size_t>(largest)));
      berths.release_all();
    }
    for (const int ranks : {1, 4, 16, 64, 128})
      if (ranks <= largest) measure_round(setting, berths, ranks, with_slow);
  }
  berths.unpark_all();
}

int parse_count(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0 ? number : 0;
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  using namespace berth::bench;
  const int rounds = argc > 4 ? parse_count(argv[4]) : 0;
  const int largest = argc > 5 ? parse_count(argv[5]) : 128;
  const passwd* user = argc > 3 ? getpwnam(argv[3]) : nullptr;
  if (user == nullptr || rounds == 0 || largest == 0 || argc > 6) {
    std::fputs("usage: bench_launch IMAGE-DIRECTORY IMAGE.sqsh USER ROUNDS [LARGEST]\n", stderr);
    return 2;
  }
  try {
    measure({argv[1], argv[2], {user->pw_uid, user->pw_gid, {user->pw_gid}}, user->pw_name}, rounds, largest);
    return 0;
  } catch (const berth::Error& error) {
    std::fprintf(stderr, "bench_launch: %s\n", error.render().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_launch: %s\n", error.what());
  }
  return 1;
}
