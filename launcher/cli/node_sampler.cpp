#include "launcher/cli/node_sampler.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <tuple>
#include <utility>

#include "launcher/broker/counters_reader.hpp"
#include "launcher/image/child.hpp"
#include "launcher/system/namespaces.hpp"
#include "launcher/system/process.hpp"

namespace berth {
namespace {

/// Berths that one child reads: what it says about them must fit into one record.
constexpr std::size_t kBatch = 64;
constexpr std::chrono::seconds kPatience{10};
constexpr int kTries = 3;

BerthCounters read_one(const Journal& journal, const LeaseRecord& record, CountersReader& reader) {
  const auto netns = open_pinned_netns(journal.netns_path(netns_owner(record.berth)));
  if (record.netns_inode != 0 && (!netns || netns_inode(*netns) != record.netns_inode))
    throw Error(ErrorCode::host, fmt::format("cannot read the counters of {}", record.berth.id),
                "its network namespace is not that of the lease any more", "run: berth repair");
  const UniqueFd none;
  return reader.read(record, netns ? *netns : none);
}

/// In a child, because whoever is in a berth when its step ends is taken for a leftover of the step, and killed.
std::vector<BerthFigures> read_batch(const Journal& journal, const std::vector<LeaseRecord>& leases, std::size_t begin,
                                     std::size_t end, bool port_counters) {
  std::vector<BerthFigures> figures(end - begin);
  const auto read_all = [&]() -> ChildAnswer {
    CountersReader reader(port_counters);
    nlohmann::json answers = nlohmann::json::array();
    for (std::size_t i = begin; i < end; ++i) try {
        answers.push_back(to_json_value(read_one(journal, leases[i], reader)));
      } catch (const Error& error) {
        answers.push_back(fmt::format("{}: {}", error.what_text, error.why));
      }
    return {answers.dump(), {}};
  };
  std::string failure;
  for (int attempt = 0; attempt < kTries; ++attempt) try {
      const auto answers = nlohmann::json::parse(ask_child("cannot read the counters", kPatience, read_all).text);
      for (std::size_t i = 0; i < figures.size(); ++i)
        if (answers.at(i).is_string())
          answers.at(i).get_to(figures[i].error);
        else
          figures[i].counters = parse_berth_counters(answers.at(i));
      return figures;
    } catch (const Error& error) {
      failure = fmt::format("{}: {}", error.what_text, error.why);
    }
  for (BerthFigures& berth : figures) berth.error = failure;
  return figures;
}

bool matches(const StepFilter& filter, const LeaseOwner& owner) {
  return (!filter.job || owner.job == *filter.job) && (!filter.step || owner.step == *filter.step);
}

}  // namespace

NodeSampler::NodeSampler(const std::string& state_directory, std::string node, StepFilter filter, bool port_counters)
    : journal_(state_directory), node_(std::move(node)), filter_(filter), port_counters_(port_counters) {}

std::vector<LeaseRecord> NodeSampler::read_leases() {
  left_out_ = 0;
  const uid_t user = geteuid();
  std::map<std::string, CachedRecord> former = std::exchange(records_, {});
  std::vector<LeaseRecord> leases;
  std::optional<LeaseOwner> foreign;
  for (const std::string& id : journal_.ids()) {
    struct stat status {};
    if (stat((journal_.state_directory() + "/leases/" + id).c_str(), &status) != 0) continue;  // released just now
    CachedRecord& cached = records_[id];
    const auto known = former.find(id);
    if (known != former.end() && known->second.inode == status.st_ino &&
        known->second.changed.tv_sec == status.st_mtim.tv_sec &&
        known->second.changed.tv_nsec == status.st_mtim.tv_nsec)
      cached = std::move(known->second);
    else
      cached = {status.st_ino, status.st_mtim, journal_.read(id)};
    const auto& record = cached.record;
    if (!record || record->phase != Phase::leased || !record->owner || !matches(filter_, *record->owner)) continue;
    if (user == 0 || record->owner->uid == user) {
      leases.push_back(*record);
    } else {
      ++left_out_;
      foreign = record->owner;
    }
  }
  if (leases.empty() && filter_.job && foreign)
    throw Error(ErrorCode::policy, fmt::format("cannot show the figures of {}", to_string(*foreign)),
                "only root sees those of other users");
  std::ranges::sort(leases, {}, [](const LeaseRecord& record) {
    return std::tuple(record.owner->job, record.owner->step, record.owner->launcher_pid, record.owner->ranks,
                      record.berth.id);
  });
  return leases;
}

std::vector<BerthFigures> NodeSampler::read_as_root(const std::vector<LeaseRecord>& leases) const {
  std::vector<BerthFigures> figures;
  for (std::size_t begin = 0; begin < leases.size(); begin += kBatch) {
    const std::size_t end = std::min(begin + kBatch, leases.size());
    std::ranges::move(read_batch(journal_, leases, begin, end, port_counters_), std::back_inserter(figures));
  }
  return figures;
}

std::vector<BerthFigures> NodeSampler::read_as_user(const std::vector<LeaseRecord>& leases) const {
  std::vector<std::uint64_t> inodes;
  for (const LeaseRecord& record : leases) inodes.push_back(record.netns_inode);
  const auto processes = read_processes_in_each(inodes);
  CountersReader reader(port_counters_);
  std::vector<BerthFigures> figures(leases.size());
  for (std::size_t i = 0; i < leases.size(); ++i) try {
      if (leases[i].netns_inode != 0 && processes[i].empty())
        throw Error(ErrorCode::host, fmt::format("cannot read the counters of {}", leases[i].berth.id),
                    "no process of yours is in this berth, and only root may enter it");
      figures[i].counters = reader.read_from_outside(leases[i], leases[i].netns_inode == 0 ? 0 : processes[i].front());
    } catch (const Error& error) {
      figures[i].error = fmt::format("{}: {}", error.what_text, error.why);
    }
  return figures;
}

NodeFigures NodeSampler::sample() {
  const std::vector<LeaseRecord> leases = read_leases();
  NodeFigures figures{
      .node = node_,
      .time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(),
      .since = {},
      .berths = geteuid() == 0 ? read_as_root(leases) : read_as_user(leases)};
  for (std::size_t i = 0; i < leases.size(); ++i) figures.berths[i].labels = make_labels(leases[i]);
  return figures;
}

}  // namespace berth
