#include "launcher/cli/node_sampler.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
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

std::string describe(const Error& error) { return fmt::format("{}: {}", error.what_text, error.why); }

/// Whether one of `processes` is in the berth, or the berth in the host's network: then its figures are there, or why
/// not.
bool read_from_outside(CountersReader& reader, const LeaseRecord& record, const std::vector<int>& processes,
                       BerthFigures& figures) {
  try {
    if (record.netns_inode == 0) {
      figures.counters = reader.read_from_outside(record, 0).value();
      return true;
    }
    for (const int pid : processes)
      if (auto counters = reader.read_from_outside(record, pid)) {
        figures.counters = *std::move(counters);
        return true;
      }
    return false;
  } catch (const Error& error) {
    figures.error = describe(error);
    return true;
  }
}

/// In a child, because whoever is in a berth when its step ends is taken for a leftover of the step, and killed.
/// `batch`: positions in both lists.
void read_inside(const Journal& journal, const std::vector<LeaseRecord>& leases, const std::vector<std::size_t>& batch,
                 bool port_counters, std::vector<BerthFigures>& figures) {
  const auto read_all = [&]() -> ChildAnswer {
    CountersReader reader(port_counters);
    nlohmann::json answers = nlohmann::json::array();
    for (const std::size_t i : batch) try {
        answers.push_back(to_json_value(read_one(journal, leases[i], reader)));
      } catch (const Error& error) {
        answers.push_back(describe(error));
      }
    return {answers.dump(), {}};
  };
  std::string failure;
  for (int attempt = 0; attempt < kTries; ++attempt) try {
      const auto answers = nlohmann::json::parse(ask_child("cannot read the counters", kPatience, read_all).text);
      for (std::size_t k = 0; k < batch.size(); ++k)
        if (answers.at(k).is_string())
          answers.at(k).get_to(figures[batch[k]].error);
        else
          figures[batch[k]].counters = parse_berth_counters(answers.at(k));
      return;
    } catch (const Error& error) {
      failure = describe(error);
    }
  for (const std::size_t i : batch) figures[i].error = failure;
}

/// Root enters berths that nobody is in, and those whose RDMA device no other netns shows.
void read_rest_as_root(const Journal& journal, const std::vector<LeaseRecord>& leases,
                       const std::vector<std::size_t>& rest, bool port_counters, std::vector<BerthFigures>& figures) {
  for (std::size_t begin = 0; begin < rest.size(); begin += kBatch) {
    const auto first = rest.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto count = static_cast<std::ptrdiff_t>(std::min(kBatch, rest.size() - begin));
    read_inside(journal, leases, {first, first + count}, port_counters, figures);
  }
}

/// Others look for any process of theirs that is in them.
void read_rest_as_user(const std::vector<LeaseRecord>& leases, const std::vector<std::size_t>& rest,
                       CountersReader& reader, std::vector<BerthFigures>& figures) {
  std::vector<std::uint64_t> inodes;
  for (const std::size_t i : rest) inodes.push_back(leases[i].netns_inode);
  const auto processes = read_processes_in_each(inodes);
  for (std::size_t k = 0; k < rest.size(); ++k)
    if (!read_from_outside(reader, leases[rest[k]], processes[k], figures[rest[k]]))
      figures[rest[k]].error = fmt::format(
          "cannot read the counters of {}: no process of yours is in this berth, and only root may enter it",
          leases[rest[k]].berth.id);
}

bool matches(const StepFilter& filter, const LeaseOwner& owner) {
  return (!filter.job || owner.job == *filter.job) && (!filter.step || owner.step == *filter.step);
}

}  // namespace

NodeSampler::NodeSampler(const std::string& state_directory, std::string node, StepFilter filter, bool port_counters)
    : journal_(state_directory, Journal::Use::look),
      node_(std::move(node)),
      filter_(filter),
      port_counters_(port_counters),
      changes_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  const std::string directory = journal_.state_directory() + "/leases";
  if (changes_ && inotify_add_watch(changes_.get(), directory.c_str(), IN_MOVED_TO | IN_DELETE | IN_ONLYDIR) < 0)
    changes_.reset();  // nothing was ever leased, or the user has too many watches
  read_leases();
}

bool NodeSampler::records_may_have_changed() {
  if (!changes_) return true;
  alignas(inotify_event) std::array<char, 4096> events{};
  bool changed = false;
  for (;;) {
    const ssize_t size = read(changes_.get(), events.data(), events.size());
    if (size <= 0) return changed;
    changed = true;
    for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
      inotify_event event{};
      std::memcpy(&event, events.data() + at, sizeof event);
      at += sizeof event + event.len;
      if ((event.mask & IN_IGNORED) == 0) continue;  // else the directory itself is gone
      changes_.reset();
      return true;
    }
  }
}

void NodeSampler::read_leases() {
  left_out_ = 0;
  left_out_owner_.reset();
  leases_.clear();
  const uid_t user = geteuid();
  for (const std::string& id : journal_.ids()) {
    const auto record = journal_.read(id);
    if (!record || record->phase != Phase::leased || !record->owner || !matches(filter_, *record->owner)) continue;
    if (user == 0 || record->owner->uid == user) {
      leases_.push_back(*record);
    } else {
      ++left_out_;
      left_out_owner_ = record->owner;
    }
  }
  std::ranges::sort(leases_, {}, [](const LeaseRecord& record) {
    return std::tuple(record.owner->job, record.owner->step, record.owner->launcher_pid, record.owner->ranks,
                      record.berth.id);
  });
}

NodeFigures NodeSampler::sample() {
  if (records_may_have_changed()) read_leases();
  if (leases_.empty() && filter_.job && left_out_owner_)
    throw Error(ErrorCode::policy, fmt::format("cannot show the figures of {}", to_string(*left_out_owner_)),
                "only root sees those of other users");
  const bool is_root = geteuid() == 0;
  NodeFigures figures{
      .node = node_,
      .time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(),
      .since = {},
      .berths = std::vector<BerthFigures>(leases_.size())};
  CountersReader reader(port_counters_);
  std::vector<std::size_t> rest;
  for (std::size_t i = 0; i < leases_.size(); ++i) {
    figures.berths[i].labels = make_labels(leases_[i]);
    const bool must_enter = is_root && leases_[i].berth.rdma.mode == RdmaMode::exclusive;
    if (must_enter || !read_from_outside(reader, leases_[i], leases_[i].owner->processes, figures.berths[i]))
      rest.push_back(i);
  }
  if (rest.empty()) return figures;
  if (is_root)
    read_rest_as_root(journal_, leases_, rest, port_counters_, figures.berths);
  else
    read_rest_as_user(leases_, rest, reader, figures.berths);
  return figures;
}

}  // namespace berth
