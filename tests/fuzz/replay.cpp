// Fuzzing without a fuzzer: texts made from good ones by a fixed rule, the same on every machine and in every build.
//
//   fuzz_replay TARGET RUNS [FILE]   each text goes to FILE before it is tried: after a crash it is there
//   fuzz_replay --seeds DIR          writes what libFuzzer starts from: DIR/TARGET/N
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/fuzz/seeds.hpp"

// Each target's LLVMFuzzerTestOneInput(), which CMake renames.
extern "C" {
int fuzz_arguments(const std::uint8_t* data, std::size_t size);
int fuzz_capture(const std::uint8_t* data, std::size_t size);
int fuzz_container(const std::uint8_t* data, std::size_t size);
int fuzz_policy(const std::uint8_t* data, std::size_t size);
int fuzz_problem(const std::uint8_t* data, std::size_t size);
int fuzz_sif(const std::uint8_t* data, std::size_t size);
int fuzz_topology(const std::uint8_t* data, std::size_t size);
int fuzz_values(const std::uint8_t* data, std::size_t size);
}

namespace berth::fuzzing {
namespace {

using Target = int (*)(const std::uint8_t*, std::size_t);
const std::map<std::string_view, Target> kTargets{
    {"arguments", fuzz_arguments}, {"capture", fuzz_capture}, {"container", fuzz_container}, {"policy", fuzz_policy},
    {"problem", fuzz_problem},     {"sif", fuzz_sif},         {"topology", fuzz_topology},   {"values", fuzz_values}};

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {
    for (const std::string& seed : seeds_) add_words(seed);
  }

  /// The seeds as they are, then each cut off at many places, then ever new changes.
  std::string next() {
    if (run_ < seeds_.size()) return seeds_[run_++];
    constexpr std::size_t kCuts = 64;
    if (const std::size_t cut = run_ - seeds_.size(); cut < seeds_.size() * kCuts) {
      ++run_;
      const std::string& seed = seeds_[cut / kCuts];
      return seed.substr(0, seed.size() * (cut % kCuts) / kCuts);
    }
    std::string text = pick(seeds_);
    for (std::size_t changes = 1 + below(6); changes > 0; --changes) change(text);
    return text;
  }

 private:
  std::size_t below(std::size_t limit) {
    return limit == 0 ? 0 : random_() % limit;
  }  // distributions differ by library
  const std::string& pick(const std::vector<std::string>& all) { return all[below(all.size())]; }

  void add_words(const std::string& seed) {
    std::string word;
    for (const char c : seed) {
      const bool is_part = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
      if (is_part) {
        word += c;
      } else {
        if (!word.empty()) words_.push_back(std::exchange(word, {}));
        words_.push_back(std::string(1, c));
      }
    }
  }

  void change(std::string& text) {
    static const std::vector<std::string> kEvil{"-1",
                                                "4294967296",
                                                "18446744073709551616",
                                                "1e999",
                                                "0x",
                                                "\xff",
                                                "]]>",
                                                std::string(1, '\0'),
                                                std::string(300, '['),
                                                std::string(300, ','),
                                                "<!DOCTYPE a [<!ENTITY b \"c\">]>",
                                                "&#0;",
                                                "\\u0000",
                                                "/../"};
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = std::min(below(below(2) == 0 ? 4 : 64) + 1, text.size() - at);
    switch (below(8)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << below(8)));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      case 3:
        text.insert(at, pick(words_));
        break;
      case 4:
        text.replace(at, length, pick(words_));
        break;
      case 5:
        text.insert(at, pick(kEvil));
        break;
      case 6: {
        const std::string& other = pick(seeds_);
        text.replace(at, length, other.substr(below(other.size()), 1 + below(200)));
        break;
      }
      default:
        text.insert(below(text.size() + 1), text.substr(at, below(text.size() - at + 1)));
    }
  }

  std::vector<std::string> seeds_;
  std::vector<std::string> words_;
  std::size_t run_ = 0;
  std::mt19937_64 random_{1};
};

int replay(std::string_view name, std::size_t runs, const std::string& kept) {
  const Target target = kTargets.at(name);
  Mutator mutator(make_seeds(name));
  for (std::size_t run = 0; run < runs; ++run) {
    const std::string text = mutator.next();
    if (!kept.empty()) std::ofstream(kept, std::ios::binary) << text;
    target(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  }
  std::printf("%zu texts\n", runs);
  return 0;
}

int write_seeds(const std::filesystem::path& directory) {
  for (const std::string_view target : targets()) {
    std::filesystem::create_directories(directory / target);
    std::size_t number = 0;
    for (const std::string& seed : make_seeds(target))
      std::ofstream(directory / target / std::to_string(number++), std::ios::binary) << seed;
  }
  return 0;
}

}  // namespace
}  // namespace berth::fuzzing

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  if (arguments.size() == 2 && arguments[0] == "--seeds") return berth::fuzzing::write_seeds(arguments[1]);
  std::size_t runs = 0;
  if (arguments.size() >= 2 && berth::fuzzing::kTargets.contains(arguments[0]) &&
      std::from_chars(arguments[1].data(), arguments[1].data() + arguments[1].size(), runs).ec == std::errc{})
    return berth::fuzzing::replay(arguments[0], runs, arguments.size() > 2 ? std::string(arguments[2]) : std::string());
  std::fputs("usage: fuzz_replay TARGET RUNS [FILE] | fuzz_replay --seeds DIR\n", stderr);
  return 2;
}
