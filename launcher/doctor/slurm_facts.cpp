#include "launcher/doctor/slurm_facts.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "launcher/system/fd.hpp"
#include "launcher/system/process.hpp"
#include "launcher/system/program.hpp"

namespace berth {
namespace {

constexpr std::chrono::seconds kPatience{10};

std::optional<std::string> read_if_there(const std::string& path) {
  try {
    return read_file(AT_FDCWD, path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Loads the plugin as slurmstepd would, functions of Slurm aside. Only a file that root alone can write is loaded.
void read_plugin(SlurmFacts& facts) {
  struct stat status {};
  if (stat(facts.plugin_path.c_str(), &status) != 0) {
    facts.plugin_problem = "there is no such file";
    return;
  }
  if (status.st_uid != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    facts.plugin_problem = "others than root can write it";
    return;
  }
  void* plugin = dlopen(facts.plugin_path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (plugin == nullptr) {
    const char* problem = dlerror();
    facts.plugin_problem = problem == nullptr ? "unknown" : problem;
    return;
  }
  if (const auto* version = static_cast<const unsigned*>(dlsym(plugin, "plugin_version"))) facts.built_for = *version;
  dlclose(plugin);
}

std::optional<std::uint64_t> parse_memlock(const std::string& limits) {
  std::istringstream lines(limits);
  for (std::string line; std::getline(lines, line);) {
    constexpr std::string_view kName = "Max locked memory";
    if (!line.starts_with(kName)) continue;
    std::istringstream rest(line.substr(kName.size()));
    std::string soft;
    rest >> soft;
    if (soft == "unlimited") return UINT64_MAX;
    return std::strtoull(soft.c_str(), nullptr, 10);
  }
  return std::nullopt;
}

/// Of the first slurmd that can be looked at: ranks have it unless slurm.conf or the policy says otherwise.
std::optional<std::uint64_t> read_slurmd_memlock() {
  for (const int pid : find_processes("slurmd"))
    if (const auto limits = read_if_there(fmt::format("/proc/{}/limits", pid))) return parse_memlock(*limits);
  return std::nullopt;
}

}  // namespace

std::map<std::string, std::string> parse_slurm_configuration(const std::string& text) {
  std::map<std::string, std::string> configuration;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    const std::size_t key_end = line.find_last_not_of(' ', equals == 0 ? 0 : equals - 1);
    const std::size_t value = line.find_first_not_of(' ', equals + 1);
    const std::size_t value_end = line.find_last_not_of(' ');
    configuration[line.substr(0, key_end + 1)] =
        value == std::string::npos ? std::string() : line.substr(value, value_end - value + 1);
  }
  return configuration;
}

std::string parse_plugstack(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string kind;
    std::string path;
    words >> kind >> path;
    if ((kind == "required" || kind == "optional") && std::filesystem::path(path).filename() == "spank_berth.so")
      return path;
  }
  return {};
}

SlurmFacts read_slurm_facts() {
  SlurmFacts facts;
  std::vector<std::string> variables;
  if (const char* conf = std::getenv("SLURM_CONF")) variables.push_back(std::string("SLURM_CONF=") + conf);
  if (const auto text = read_program_output({"scontrol", "show", "config"}, variables, kPatience))
    facts.configuration = parse_slurm_configuration(*text);
  const auto value = [&](const char* key, const char* otherwise) {
    const auto found = facts.configuration.find(key);
    return found == facts.configuration.end() ? std::string(otherwise) : found->second;
  };
  const std::filesystem::path slurm_conf = value("SLURM_CONF", "/etc/slurm/slurm.conf");
  const std::filesystem::path plugin_directory = value("PluginDir", "/usr/lib64/slurm");
  facts.plugstack_path = value("PlugStackConfig", "");
  if (facts.plugstack_path.empty() || facts.plugstack_path == "(null)")
    facts.plugstack_path = slurm_conf.parent_path() / "plugstack.conf";
  facts.gres_conf = read_if_there(slurm_conf.parent_path() / "gres.conf").value_or("");
  std::error_code ignored;
  facts.has_pmix = std::filesystem::exists(plugin_directory / "mpi_pmix.so", ignored);
  facts.memlock = read_slurmd_memlock();

  const auto text = read_if_there(facts.plugstack_path);
  facts.plugstack_is_readable = text.has_value();
  if (!text) return facts;
  facts.plugin_path = parse_plugstack(*text);
  // "include plugstack.conf.d/*": one level, as sites have it.
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(facts.plugstack_path) += ".d", ignored)) {
    if (!facts.plugin_path.empty()) break;
    facts.plugin_path = parse_plugstack(read_if_there(entry.path()).value_or(""));
  }
  if (facts.plugin_path.empty()) return facts;
  if (!facts.plugin_path.starts_with('/')) facts.plugin_path = plugin_directory / facts.plugin_path;
  read_plugin(facts);
  return facts;
}

}  // namespace berth
