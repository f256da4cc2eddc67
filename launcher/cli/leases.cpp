#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/broker/berth.hpp"
#include "launcher/cli/table.hpp"
#include "launcher/cli/verbs.hpp"
#include "launcher/image/parked_images.hpp"
#include "launcher/system/irq.hpp"

namespace berth {
namespace {

/// "9 to CPUs 4-5": the interrupts that were steered, and who serves them now, since others may steer, too.
std::string describe_irqs(const LeaseRecord& record) {
  if (record.irqs.empty()) return {};
  CpuSet serving;
  for (const IrqAffinity& irq : record.irqs) serving |= read_irq_affinity(irq.irq).value_or(CpuSet{});
  return fmt::format("{} to CPUs {}", record.irqs.size(), to_string(serving));
}

/// The record as it is written, and of its interrupts who serves them now.
nlohmann::json to_json_value(const LeaseRecord& record) {
  nlohmann::json value = nlohmann::json::parse(to_json_text(record));
  for (std::size_t i = 0; i < record.irqs.size(); ++i) {
    const auto now = read_irq_affinity(record.irqs[i].irq);
    value["irqs"][i]["now"] = now ? nlohmann::json(to_string(*now)) : nullptr;
  }
  return value;
}

/// A record's phase in words; only root can tell whether a holder still lives.
std::string state_of(const Journal& journal, const LeaseRecord& record) {
  const bool orphaned = geteuid() == 0 && !journal.is_locked(record.berth.id);
  const std::string_view ending = orphaned ? ", its holder is gone: `berth repair`" : "";
  switch (record.phase) {
    case Phase::parking:
      return fmt::format("being parked{}", ending);
    case Phase::parked:
      return "parked, free";
    case Phase::leased:
      return fmt::format("leased{}", ending);
    case Phase::releasing:
      return fmt::format("being released{}", ending);
    case Phase::unparking:
      return fmt::format("being brought home{}", ending);
    case Phase::quarantined:
      break;
  }
  return "quarantined: " + record.reason;
}

void show_leases(const GlobalOptions& options) {
  const Journal journal(options.state_directory, Journal::Use::look);
  Table table({"DEVICE", "POOL", "INTERFACE", "ADDRESS", "HOLDER", "RANKS", "IRQS", "STATE"});
  nlohmann::json records = nlohmann::json::array();
  for (const std::string& id : journal.ids()) {
    const auto record = journal.read(id);
    if (!record) continue;  // of another boot, or released since
    records.push_back(to_json_value(*record));
    const auto& addresses = record->berth.addresses;
    table.add({id, record->berth.pool, record->berth.interface, addresses.empty() ? "" : to_string(addresses.front()),
               record->owner ? to_string(*record->owner) : "",
               record->owner ? fmt::format("{}", fmt::join(record->owner->ranks, ",")) : "", describe_irqs(*record),
               state_of(journal, *record)});
  }
  nlohmann::json images = nlohmann::json::array();
  for (const ParkedImage& image : read_parked_images(options.state_directory)) images.push_back(image.path);
  if (options.json) return print_json(nlohmann::json{{"leases", records}, {"images", images}}.dump(2));
  fmt::print("{}", table.empty() ? "no device is parked or leased\n" : table.render());
  for (const nlohmann::json& path : images) fmt::print("image {}: parked\n", path.get<std::string>());
}

void repair_node(std::optional<std::uint32_t> job, const GlobalOptions& options) {
  const Journal journal(options.state_directory);
  const std::vector<Repair> repairs = repair(journal, job);
  if (options.json) {
    nlohmann::json devices = nlohmann::json::array();
    for (const Repair& repaired : repairs) devices.push_back({{"device", repaired.id}, {"action", repaired.action}});
    return print_json(nlohmann::json{{"repaired", devices}}.dump(2));
  }
  for (const Repair& repaired : repairs) fmt::print("{}  {}\n", repaired.id, repaired.action);
  if (repairs.empty()) fmt::print("nothing to repair\n");
}

}  // namespace

void add_leases_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("leases", "Show which devices and images are parked, and who holds devices.");
  verb->callback([&options] { show_leases(options); });
}

void add_repair_verb(CLI::App& app, GlobalOptions& options) {
  CLI::App* verb = app.add_subcommand("repair", "Finish what killed processes left behind (root).");
  const auto job = std::make_shared<std::optional<std::uint32_t>>();
  verb->add_option("--job", *job, "only devices of this job")->type_name("N");
  verb->footer("Safe at any time and any number of times: devices in use are left alone.");
  verb->callback([job, &options] { repair_node(*job, options); });
}

}  // namespace berth
