// The callbacks that Slurm calls, spank(8): which of them runs where and as whom is in docs/design.md. Nothing may
// leave them as an exception, and where Slurm loses an error (init_post_opt, task_post_fork) it is kept for the tasks.
#include <fmt/format.h>

#include <optional>

#include "slurm/launcher_daemon.hpp"
#include "slurm/step.hpp"

#define BERTH_EXPORT __attribute__((visibility("default")))
extern "C" {
BERTH_EXPORT extern const char plugin_name[];
BERTH_EXPORT extern const char plugin_type[];
BERTH_EXPORT extern const unsigned int plugin_version;
BERTH_EXPORT extern const unsigned int spank_plugin_version;
SPANK_PLUGIN(berth, 1)
}

namespace {

berth::Request request;
berth::SiteOptions site;
std::optional<berth::SlurmStep> step;

template <typename Body>
int guard(Body body) noexcept {
  try {
    body();
    return 0;
  } catch (const berth::Error& error) {
    slurm_spank_log("%s", error.render().c_str());
  } catch (const std::exception& error) {
    slurm_spank_log("berth: internal error: %s", error.what());
  }
  return -1;
}

}  // namespace

extern "C" {

BERTH_EXPORT int slurm_spank_init(spank_t spank, int argc, char** argv) {
  return guard([&] {
    site = berth::parse_site_options(argc, argv);
    const bool submits = spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR;
    if (submits) berth::adopt_environment_options();
    // srun reads these variables after init and before the options: one rank that cannot enter must end the whole step.
    if (spank_context() == S_CTX_LOCAL && berth::container_is_asked_for()) {
      setenv("SLURM_KILL_BAD_EXIT", "1", 0);
      // On fewer nodes than TreeWidth Slurm's tree fence, its choice for barriers, waits for no other node (Slurm
      // 22.05.8, reverse_tree_info() in src/common/reverse_tree.c), and Open MPI then crashes in MPI_Init; its ring
      // fence does. The user's own choice wins.
      setenv("SLURM_PMIX_FENCE", "ring", 0);
    }
    berth::register_options(spank, request);
  });
}

BERTH_EXPORT int slurm_spank_init_post_opt(spank_t spank, int /*argc*/, char** /*argv*/) {
  bool accepted = true;
  const int code = guard([&] {
    if (spank_context() == S_CTX_LOCAL && !request.image.empty()) accepted = berth::accept_launcher(request.image);
    if (spank_remote(spank) != 1 || request.image.empty() || !berth::is_user_step(spank)) return;
    if (berth::is_launcher_daemon(spank)) return;  // it must see the host; srun has made sure of its ranks
    step.emplace(site, request);
    step->start(spank);
  });
  return accepted ? code : -1;
}

BERTH_EXPORT int slurm_spank_task_post_fork(spank_t spank, int /*argc*/, char** /*argv*/) {
  return guard([&] {
    if (step) step->announce_task(spank);
  });
}

BERTH_EXPORT int slurm_spank_task_init_privileged(spank_t spank, int /*argc*/, char** /*argv*/) {
  return guard([&] {
    if (step) step->enter_privileged(spank);
  });
}

BERTH_EXPORT int slurm_spank_task_init(spank_t spank, int /*argc*/, char** /*argv*/) {
  return guard([&] {
    if (step) step->enter_unprivileged(spank);
  });
}

BERTH_EXPORT int slurm_spank_task_exit(spank_t /*spank*/, int /*argc*/, char** /*argv*/) {
  return guard([&] {
    if (step) step->end_task();
  });
}

BERTH_EXPORT int slurm_spank_exit(spank_t spank, int /*argc*/, char** /*argv*/) {
  return guard([&] {
    if (step && spank_remote(spank) == 1) step->finish();
  });
}

}  // extern "C"
