// A directory tree that a test builds and that goes with it.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace berth {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "berth-test-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make a temporary directory");
    path_ = path;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string path(const std::string& below) const { return (path_ / below).string(); }

  void file(const std::string& below, std::string_view content) const {
    std::filesystem::create_directories((path_ / below).parent_path());
    std::ofstream(path_ / below) << content;
  }
  void directory(const std::string& below) const { std::filesystem::create_directories(path_ / below); }
  void link(const std::string& below, const std::string& target) const {
    std::filesystem::create_directories((path_ / below).parent_path());
    std::filesystem::create_symlink(target, path_ / below);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace berth
