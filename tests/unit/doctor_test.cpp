#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <functional>

#include "launcher/doctor/checks.hpp"
#include "tests/unit/synthetic_node.hpp"

using namespace berth;

namespace {

/// A node of which nothing can be said but good.
NodeFacts healthy_node() {
  NodeFacts facts;
  facts.is_root = true;
  facts.kernel.release = "6.1.0";
  for (const char* feature : {"squashfs", "overlay", "fuse", "loop", "macvlan", "ib_uverbs", "rdma_ucm"})
    facts.kernel.features[feature] = Available::yes;
  facts.kernel.max_network_namespaces = 1000;
  facts.kernel.has_iommu = true;
  facts.kernel.has_rdma_controller = true;
  facts.inventory = two_socket_node();
  facts.policy.path = "policy.toml";
  facts.policy.policy = two_pools();
  facts.policy.policy->pools[0].gres = "vf";
  facts.policy.policy->images.paths = {"/images"};
  facts.image_paths = {{"/images", true, true}};
  facts.slurm.configuration = {{"SLURM_VERSION", "22.05.8"},
                               {"TaskPlugin", "task/affinity,task/cgroup"},
                               {"ProctrackType", "proctrack/cgroup"},
                               {"Prolog", "/usr/libexec/berth/prolog"},
                               {"Epilog", "/usr/libexec/berth/epilog"},
                               {"GresTypes", "gpu,vf"},
                               {"PropagateResourceLimits", "NONE"}};
  facts.slurm.plugstack_path = "/etc/slurm/plugstack.conf";
  facts.slurm.plugstack_is_readable = true;
  facts.slurm.plugin_path = "/usr/lib/slurm/spank_berth.so";
  facts.slurm.built_for = 22U << 16 | 5U << 8 | 2U;
  facts.slurm.has_pmix = true;
  facts.slurm.memlock = UINT64_MAX;
  for (const GresLine& line : make_gres_lines(facts.policy.policy->pools[0], facts.inventory))
    facts.slurm.gres_conf += to_string(line) + "\n";
  return facts;
}

/// All that is not ok, as "SEVERITY CHECK: WHAT | WHY | FIX".
std::vector<std::string> complaints(const NodeFacts& facts) {
  std::vector<std::string> texts;
  for (const Check& check : kChecks)
    for (const Finding& finding : check.judge(facts))
      if (finding.severity != Severity::ok)
        texts.push_back(std::string(to_string(finding.severity)) + " " + std::string(check.name) + ": " + finding.what +
                        " | " + finding.why + " | " + finding.fix);
  return texts;
}

/// Exactly one complaint, which begins with `start` and has `part` in it.
void check_complaint(const char* start, const char* part, const std::function<void(NodeFacts&)>& spoil) {
  INFO(start);
  NodeFacts facts = healthy_node();
  spoil(facts);
  const auto found = complaints(facts);
  for (const std::string& text : found) UNSCOPED_INFO(text);
  REQUIRE(found.size() == 1);
  CHECK(found[0].starts_with(start));
  CHECK(found[0].find(part) != std::string::npos);
  CHECK(found[0].find(" |  | ") == std::string::npos);  // why
  CHECK_FALSE(found[0].ends_with(" | "));               // and fix
}

Pool& pool_of(NodeFacts& facts, std::size_t number) { return facts.policy.policy->pools[number]; }

}  // namespace

TEST_CASE("A healthy node: every check says so, and nothing else", "[doctor]") {
  const NodeFacts facts = healthy_node();
  CHECK(complaints(facts).empty());
  for (const Check& check : kChecks) {
    INFO(check.name);
    CHECK_FALSE(check.judge(facts).empty());
  }
}

TEST_CASE("Names of checks are different", "[doctor]") {
  std::vector<std::string_view> names;
  for (const Check& check : kChecks) names.push_back(check.name);
  std::ranges::sort(names);
  CHECK(std::ranges::adjacent_find(names) == names.end());
}

TEST_CASE("What the kernel lacks", "[doctor]") {
  check_complaint("note view: not all", "as root", [](NodeFacts& facts) { facts.is_root = false; });
  check_complaint("error kernel: Linux 6.1.0 is too old", "fsopen, pidfd_open", [](NodeFacts& facts) {
    facts.kernel.missing_calls = {"fsopen", "pidfd_open"};
  });
  check_complaint("error kernel: no network namespace", "max_net_namespaces",
                  [](NodeFacts& facts) { facts.kernel.max_network_namespaces = 0; });
  check_complaint("error modules: the kernel has no squashfs", "install the module",
                  [](NodeFacts& facts) { facts.kernel.features["squashfs"] = Available::no; });
  check_complaint("error modules: the kernel has no macvlan", "kind = \"macvlan\"",
                  [](NodeFacts& facts) { facts.kernel.features["macvlan"] = Available::no; });
  check_complaint("note iommu: the IOMMU is off", "intel_iommu=on",
                  [](NodeFacts& facts) { facts.kernel.has_iommu = false; });
  NodeFacts loadable = healthy_node();
  for (auto& [name, available] : loadable.kernel.features) available = Available::loadable;
  CHECK(complaints(loadable).empty());
}

TEST_CASE("RDMA: modules and the system's mode", "[doctor]") {
  const auto with_rdma = [](NodeFacts& facts) {
    facts.policy.policy->pools.resize(1);
    pool_of(facts, 0).rdma.mode = RdmaMode::exclusive;
    facts.inventory.rdma_netns_mode = RdmaNetnsMode::exclusive;
    for (VirtualFunction& vf : facts.inventory.virtual_functions) vf.rdma_devices = {"rxe_" + vf.netdev};
  };
  NodeFacts facts = healthy_node();
  with_rdma(facts);
  CHECK(complaints(facts).empty());
  check_complaint("warning modules: the module rdma_ucm is not loaded", "modprobe rdma_ucm", [&](NodeFacts& node) {
    with_rdma(node);
    node.kernel.features["rdma_ucm"] = Available::loadable;
  });
  check_complaint("error modules: the kernel has no ib_uverbs", "install the module ib_uverbs", [&](NodeFacts& node) {
    with_rdma(node);
    node.kernel.features["ib_uverbs"] = Available::no;
  });
  check_complaint("error rdma: pool \"fast\" cannot limit", "cgroup_disable=rdma", [&](NodeFacts& node) {
    with_rdma(node);
    pool_of(node, 0).rdma.hca_objects = 10;
    node.kernel.has_rdma_controller = false;
  });
  check_complaint("error rdma: pool \"fast\" cannot have device rules", "device_rules = false", [&](NodeFacts& node) {
    with_rdma(node);
    pool_of(node, 0).rdma.device_rules = true;
    node.kernel.release = "5.15.0-91-generic";
  });
  check_complaint("note rdma: the SELinux label of pool \"fast\" has no effect", "boot with SELinux",
                  [&](NodeFacts& node) {
                    with_rdma(node);
                    pool_of(node, 0).rdma.selinux_label = "system_u:system_r:rank_t:s0";
                  });
  check_complaint("error pools: ", "netns_mode=0", [&](NodeFacts& node) {
    with_rdma(node);
    node.inventory.rdma_netns_mode = RdmaNetnsMode::shared;
  });
}

TEST_CASE("The policy, and whether it fits the hardware", "[doctor]") {
  NodeFacts none = healthy_node();
  none.policy = {
      .path = "x", .policy = {}, .problem = Error(ErrorCode::policy, "no policy file 'x'", "w", "f"), .distrust = {}};
  none.image_paths.clear();
  CHECK(complaints(none) == std::vector<std::string>{"error policy: no policy file 'x' | w | f"});
  check_complaint("error policy: cannot use", "chmod", [](NodeFacts& facts) {
    facts.policy.distrust = Error(ErrorCode::policy, "cannot use policy file 'x'", "others", "chmod go-w x");
  });
  check_complaint("note policy: the policy has no pool", "add a [[pool]]", [](NodeFacts& facts) {
    facts.policy.policy->pools.clear();
    facts.slurm.configuration["GresTypes"] = "";
  });
  check_complaint("error pools: pool \"slow\" has no device", "eth9",
                  [](NodeFacts& facts) { pool_of(facts, 1).parents = {"eth9"}; });
  check_complaint("error pools: no address", "n2",
                  [](NodeFacts& facts) { pool_of(facts, 1).addresses.nodes = "m[1-9]"; });
  check_complaint("warning pools: 1 of 8 devices of pool \"fast\" cannot be used: 0000:3b:02.1", "vfio-pci",
                  [](NodeFacts& facts) { facts.inventory.virtual_functions[1].driver = "vfio-pci"; });
  check_complaint("error pools: 4 of 4 devices of pool \"slow\" cannot be used", "link of eth0 is down",
                  [](NodeFacts& facts) { facts.inventory.net_devices[0].link = LinkState::down; });
}

TEST_CASE("PFs and VFs", "[doctor]") {
  check_complaint("warning vfs: VFs have no carrier: eth2v0", "made while the PF is down",
                  [](NodeFacts& facts) { facts.vfs_without_carrier = {"eth2v0"}; });
  check_complaint("error vfs: eth3 has no VFs", "sriov_numvfs", [](NodeFacts& facts) {
    facts.inventory.physical_functions[1].num_vfs = 0;
    std::erase_if(facts.inventory.virtual_functions,
                  [](const VirtualFunction& vf) { return vf.netdev.starts_with("eth3"); });
  });
  check_complaint("error vfs: eth2 cannot have VFs", "BIOS", [](NodeFacts& facts) {
    facts.inventory.physical_functions[0].total_vfs = 0;
    pool_of(facts, 0).addresses.ranges.clear();  // how many addresses a node has follows from sriov_totalvfs
  });
}

TEST_CASE("irqbalance, where the policy steers interrupts", "[doctor]") {
  using Arguments = std::vector<std::string>;
  const auto steering_beside = [](std::optional<Arguments> irqbalance) {
    return [=](NodeFacts& facts) {
      facts.policy.policy->irqs = IrqSteering::near;
      facts.irqbalance = irqbalance;
    };
  };
  check_complaint("warning irqs: irqbalance moves interrupts away", "--policyscript",
                  steering_beside(Arguments{"/usr/sbin/irqbalance", "--foreground"}));
  for (const char* ban : {"--policyscript=/etc/berth-irqs", "-l", "--banirq=35", "--banmod=igbvf"}) {
    INFO(ban);
    check_complaint("note irqs: irqbalance runs, with ", "see that this means the pools' devices",
                    steering_beside(Arguments{"irqbalance", ban, "x"}));
  }
  NodeFacts without_daemon = healthy_node();
  steering_beside(std::nullopt)(without_daemon);
  CHECK(complaints(without_daemon).empty());
  NodeFacts without_steering = healthy_node();
  without_steering.irqbalance = Arguments{"irqbalance"};
  CHECK(complaints(without_steering).empty());
}

TEST_CASE("Images", "[doctor]") {
  check_complaint("warning images: /images does not exist", "images.paths", [](NodeFacts& facts) {
    facts.image_paths[0] = {"/images", false, false};
  });
  check_complaint("warning images: image files in /images cannot be mounted", "install squashfuse",
                  [](NodeFacts& facts) { facts.image_paths[0].is_trusted = false; });
  check_complaint("note images: no image is allowed", "images.paths",
                  [](NodeFacts& facts) { facts.image_paths.clear(); });
  check_complaint("note images: /images/a.sqsh is not parked", "berth park /images/a.sqsh", [](NodeFacts& facts) {
    facts.parked_images = {{"/images/a.sqsh", false}, {"/images/b.sqsh", true}};
  });
  NodeFacts fuse = healthy_node();
  fuse.image_paths[0].is_trusted = false;
  fuse.has_squashfuse = true;
  CHECK(complaints(fuse).empty());
}

TEST_CASE("Slurm and its plugin", "[doctor]") {
  const auto set = [](const char* key, const char* value) {
    return [=](NodeFacts& facts) { facts.slurm.configuration[key] = value; };
  };
  check_complaint("warning slurm: Slurm does not answer", "scontrol",
                  [](NodeFacts& facts) { facts.slurm.configuration.clear(); });
  check_complaint("note slurm: Slurm binds no task", "task/none", set("TaskPlugin", "task/none"));
  check_complaint("note slurm: Slurm may lose", "linuxproc", set("ProctrackType", "proctrack/linuxproc"));
  check_complaint("note slurm: Slurm runs no Epilog", "berth/epilog", set("Epilog", "(null)"));
  check_complaint("note slurm: Slurm runs no Prolog", "berth/prolog", set("Prolog", ""));
  check_complaint("error plugin: there is no /etc", "required",
                  [](NodeFacts& facts) { facts.slurm.plugstack_is_readable = false; });
  check_complaint("error plugin: /etc/slurm/plugstack.conf does not name", "required",
                  [](NodeFacts& facts) { facts.slurm.plugin_path.clear(); });
  check_complaint("error plugin: the plugin /usr", "no such file",
                  [](NodeFacts& facts) { facts.slurm.plugin_problem = "there is no such file"; });
  check_complaint("error plugin: the plugin is for Slurm 22.05.2", "Slurm 23.02.1 runs here",
                  set("SLURM_VERSION", "23.02.1"));
  check_complaint("note pmix: Slurm has no plugin", "mpi_pmix.so",
                  [](NodeFacts& facts) { facts.slurm.has_pmix = false; });
  check_complaint("error gres: Slurm does not know the generic resource \"vf\"", "GresTypes", set("GresTypes", "gpu"));
  check_complaint("warning gres: gres.conf is not what `berth gres` prints", "restart slurmd",
                  [](NodeFacts& facts) { facts.slurm.gres_conf = "Name=vf Count=8"; });
  check_complaint("note limits: ranks have the memlock limit of the host", "MEMLOCK",
                  set("PropagateResourceLimits", "ALL"));
  check_complaint("warning limits: ranks may lock 8 MiB", "unlimited",
                  [](NodeFacts& facts) { facts.slurm.memlock = std::uint64_t{8} << 20; });
}

TEST_CASE("Whether `berth run` has its helper", "[doctor]") {
  constexpr const char* kWithImages = "note run: `berth run` gives users images in user namespaces";
  constexpr const char* kWithoutImages =
      "note run: `berth run` gives users the host's network and shared devices, and no image | there is none";
  const auto without_helper = [](const UserNamespaceLimits& limits) {
    return [limits](NodeFacts& facts) {
      facts.run_obstacle = "there is none";
      facts.user_namespaces = limits;
      facts.has_squashfuse = facts.fuse_is_open = true;
    };
  };
  check_complaint(kWithImages, "chmod u+s", without_helper({}));
  check_complaint(kWithImages, "chmod u+s", without_helper({.most = 9, .unprivileged = 1, .apparmor_restricts = 0}));
  check_complaint(kWithoutImages, "sysctl -w user.max_user_namespaces=",
                  without_helper({.most = 0, .unprivileged = {}, .apparmor_restricts = {}}));
  check_complaint(kWithoutImages, "sysctl -w kernel.unprivileged_userns_clone=1",
                  without_helper({.most = 9, .unprivileged = 0, .apparmor_restricts = {}}));
  check_complaint("note run: `berth run` gives users directories as images", "chmod 666 /dev/fuse",
                  [](NodeFacts& facts) {
                    facts.run_obstacle = "there is none";
                    facts.has_squashfuse = true;
                  });
  check_complaint(kWithoutImages, "`userns,`",
                  without_helper({.most = 9, .unprivileged = {}, .apparmor_restricts = 1}));
}

TEST_CASE("What is left behind, and what is in quarantine", "[doctor]") {
  const auto lease = [](Phase phase, bool is_orphan, const std::string& reason = "") {
    LeaseFacts facts;
    facts.record.berth.id = "0000:3b:02.0";
    facts.record.phase = phase;
    facts.record.reason = reason;
    if (phase == Phase::leased)
      facts.record.owner = LeaseOwner{.job = 7, .step = 0, .uid = 1, .user = "alice", .ranks = {0}, .broker = {}};
    facts.is_orphan = is_orphan;
    return [=](NodeFacts& node) { node.leases = {facts}; };
  };
  check_complaint("warning leases: device 0000:3b:02.0 was left behind | job 7.0 (alice)", "berth repair",
                  lease(Phase::leased, true));
  check_complaint("warning leases: device 0000:3b:02.0 was left behind | a process died", "berth repair",
                  lease(Phase::parking, true));
  check_complaint("warning leases: device 0000:3b:02.0 is in quarantine | no answer", "berth repair",
                  lease(Phase::quarantined, false, "no answer"));
  check_complaint("note leases: traces of eth0.mv3 are left", "berth repair",
                  [](NodeFacts& facts) { facts.stale_traces = {"eth0.mv3"}; });
  NodeFacts busy = healthy_node();
  lease(Phase::leased, false)(busy);
  CHECK(complaints(busy).empty());
}

TEST_CASE("The words of Slurm's configuration, as recorded", "[doctor]") {
  const auto configuration = parse_slurm_configuration(
      "Configuration data as of 2026-11-21T00:15:01\n"
      "GresTypes               = vf\n"
      "Prolog                  = (null)\n"
      "ProctrackType           = proctrack/cgroup\n"
      "SlurmdParameters        = config_overrides,a=b\n"
      "SLURM_VERSION           = 22.05.8\n"
      "\nSlurmctld(primary) at vm is UP\n");
  CHECK(configuration.at("GresTypes") == "vf");
  CHECK(configuration.at("SlurmdParameters") == "config_overrides,a=b");
  CHECK(configuration.at("SLURM_VERSION") == "22.05.8");
  CHECK(parse_slurm_configuration("").empty());
}

TEST_CASE("The plugin's line in plugstack.conf", "[doctor]") {
  CHECK(parse_plugstack("include /etc/x\n  required   /usr/lib/slurm/spank_berth.so policy=/x\n") ==
        "/usr/lib/slurm/spank_berth.so");
  CHECK(parse_plugstack("optional spank_berth.so\n") == "spank_berth.so");
  CHECK(parse_plugstack("# required /usr/lib/slurm/spank_berth.so\nrequired other.so\n").empty());
}

TEST_CASE("Onload, where the policy allows it", "[doctor]") {
  check_complaint("error onload: cannot use Onload", "no library | install", [](NodeFacts& facts) {
    facts.onload.is_enabled = true;
    facts.onload.problem = Error(ErrorCode::host, "cannot use Onload", "there is no library", "install it");
  });
  check_complaint("note onload: cannot use an Onload profile", "latency-best.opf:12", [](NodeFacts& facts) {
    facts.onload.is_enabled = true;
    facts.onload.version = "Onload 9.0.2.140";
    facts.onload.refusals.emplace_back(ErrorCode::host, "cannot use an Onload profile", "/p/latency-best.opf:12: shell",
                                       "write it without");
  });
  NodeFacts facts = healthy_node();
  facts.onload = {.is_enabled = true,
                  .version = "Onload 9.0.2.140",
                  .problem = {},
                  .profiles = {"cloud", "latency"},
                  .refusals = {}};
  CHECK(check_onload(facts).at(0).what == "Onload 9.0.2.140 can be used; profiles: cloud, latency");
}
