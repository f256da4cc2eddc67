#include "launcher/system/irq.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "launcher/core/error.hpp"
#include "launcher/system/fd.hpp"

namespace berth {

namespace {

std::string affinity_path(unsigned irq) { return fmt::format("/proc/irq/{}/smp_affinity_list", irq); }

}  // namespace

std::vector<unsigned> read_msi_irqs(const PciAddress& pci) {
  std::vector<unsigned> irqs;
  const std::string directory = fmt::format("/sys/bus/pci/devices/{}/msi_irqs", to_string(pci));
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    unsigned irq = 0;
    const auto [stop, bad] = std::from_chars(name.data(), name.data() + name.size(), irq);
    if (bad == std::errc{} && stop == name.data() + name.size()) irqs.push_back(irq);
  }
  std::sort(irqs.begin(), irqs.end());
  return irqs;
}

std::optional<CpuSet> read_irq_affinity(unsigned irq) {
  const std::string path = affinity_path(irq);
  if (access(path.c_str(), F_OK) != 0) return std::nullopt;
  try {
    return parse_cpu_list(read_file(AT_FDCWD, path));
  } catch (const Error&) {
    return std::nullopt;  // it has gone since
  }
}

int apply_irq_affinity(unsigned irq, const CpuSet& cpus) {
  const UniqueFd file(open(affinity_path(irq).c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno;
  const std::string text = to_string(cpus);
  return write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

}  // namespace berth
