// Machines as hwloc writes them down: `lstopo FILE.xml`, format versions 1 to 3. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/core/inventory.hpp"
#include "launcher/core/locality.hpp"

namespace berth {

/// A PCI function of the file.
struct PciFunction {
  std::string address;                ///< as written, "0000:3b:00.0"
  std::string pci_class;              ///< four hex digits, "0200"; empty: unknown
  std::string vendor;                 ///< four hex digits
  std::vector<std::string> networks;  ///< names of its network interfaces
  std::vector<std::string> fabrics;   ///< names of its OpenFabrics devices (verbs, libfabric)
  bool has_gpu = false;               ///< GPU or co-processor, by its OS devices or class
  std::string image_guid;             ///< SysImageGUID of its fabric device; empty: unknown or zero
  std::optional<bool> link_up;        ///< whether one of its ports is active; empty: unknown
  CpuSet local_cpus;                  ///< never empty where the machine has CPUs
  PciLocation location;               ///< local_cpus there may be empty: I/O that hangs on memory without CPUs
};

struct HwlocMachine {
  Topology topology;
  std::vector<PciFunction> functions;  ///< in document order
};

/// Throws Error{host} with `source`, line and column for text that is no XML, and for XML that is no topology. Accepts
/// what programs wrote that only filtered: a file without caches, PCI devices or distances.
HwlocMachine parse_hwloc_xml(std::string_view text, const std::string& source);

/// Which functions of the machine a plan may use: those with OpenFabrics devices; with network interfaces alone;
/// either; VFs without any device (their driver is for user space); every function of a network class; or fabrics where
/// the machine has any, else networks.
enum class NetworkKind { fabric, network, any, bare_vf, pci, automatic };
std::optional<NetworkKind> parse_network_kind(
    std::string_view text);  ///< "ofa" | "net" | "any" | "vf" | "pci" | "auto"

struct NetworkFunction {
  std::size_t function = 0;  ///< index into HwlocMachine::functions
  std::string port;          ///< functions of the same port share a wire
  std::string card;
};
/// By PCI address. Functions whose ports are all down only if `with_down`.
///
/// Cards are told apart by PCI device, those of NVIDIA (Mellanox) by their image GUID where they have one: a Socket
/// Direct card shows a function on each socket. (Other vendors give one GUID to all cards of a host, or zeros.)
/// Function numbers tell the ports of a card.
std::vector<NetworkFunction> find_network_functions(const HwlocMachine& machine, NetworkKind kind,
                                                    bool with_down = false);

}  // namespace berth
