# Common to the tests that run on an emulated Slurm cluster. Sourced; the caller sets -euo pipefail.
#
#   begin                     remembers the machine, makes $work (root-owned, world-readable) and the user $test_user
#   start_cluster ARG...      starts $cluster_dir with these arguments of tests/slurm/cluster
#   as_user COMMAND...        runs as $test_user, with $cluster_dir's Slurm
#   finish                    takes the cluster down, checks that the machine is as before, ends with the verdict
#
# Assertions are those of tests/assertions.sh.
# shellcheck shell=bash

slurm_tests=$(dirname -- "$(readlink -f "${BASH_SOURCE[0]}")")
readonly slurm_tests
source "$slurm_tests/../assertions.sh"
readonly test_user=berth-test-$$  # two tests may run at once on a developer's machine

# What a test might leave behind on the machine.
machine() {
  awk '{print "mount", $5, $9}' /proc/self/mountinfo | sort
  ip -o link | awk -F': ' '{sub(/@.*/, "", $2); print "link", $2}' | sort
  compgen -G '/sys/block/loop*/loop/backing_file' | sed 's/^/loop /' || true
  compgen -G '/sys/fs/cgroup/*/berth_*' | sed 's/^/cgroup /' || true
  compgen -G '/run/berth/*' | sed 's/^/state /' || true
  getent passwd | sed -n 's/^\(berth-test[^:]*\):.*/user \1/p'
  if declare -F machine_devices >/dev/null; then machine_devices; fi
}

begin() {
  needs_root
  command -v slurmctld slurmd munged >/dev/null || skip "needs slurmctld, slurmd and munged"
  machine_before=$(machine)
  work=$(mktemp -d /var/lib/berth-test.XXXXXX)
  chmod 755 "$work"
  cluster_dir=$work/cluster
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  useradd --create-home --home-dir "$work/home" "$test_user" 2>/dev/null
}

clean_up() {
  local dir
  for dir in "$work"/cluster*; do
    [[ ! -e $dir/cluster ]] || "$slurm_tests/cluster" down "$dir" || true
  done
  # An srun whose slurmstepd was killed waits for ever, and a user with processes cannot be removed.
  pgrep -u "$test_user" | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
  eventually user_has_no_process || true
  userdel "$test_user" || true
  rm -rf --one-file-system -- "$work"
}

user_has_no_process() { ! pgrep -u "$test_user" >/dev/null; }

start_cluster() { "$slurm_tests/cluster" up "$cluster_dir" "$@"; }

as_user() {
  (
    cd -- "$work/home" || exit
    exec setpriv --reuid="$test_user" --regid="$(id -g "$test_user")" --init-groups -- \
      env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$work/home" USER="$test_user" SLURM_CONF="$cluster_dir/slurm.conf" "$@"
  )
}

machine_is_as_before() { diff <(echo "$machine_before") <(machine); }

take_down() {
  clean_up
  trap - EXIT
  check "the machine is as before" eventually machine_is_as_before
}

# --- Berth on the cluster ---------------------------------------------------------------------------------------------

# A test may set another one; a macvlan pool needs a number of berths, given to start_berth_cluster.
policy_head='version = 1
[[pool]]
name = "fabric"
kind = "macvlan"
parents = ["pf0"]
addresses = ["10.77.0.0/16", "fd77::/64"]
nodes = "n[1-2]"'

# take_image NAME: the image as $work/NAME.sqsh, from a directory of finished images where there is one.
take_image() {
  if [[ ${BERTH_TEST_IMAGES:-} ]]; then
    install -m 644 "$BERTH_TEST_IMAGES/$1.sqsh" "$work/$1.sqsh"
  else
    "$slurm_tests/../../images/build" "$1" "$work/$1.sqsh" >/dev/null
  fi
}

# start_berth_cluster BERTHS ARG...: a cluster with the plugin, BERTHS devices a node ("": all VFs), and the image $tiny.
start_berth_cluster() {
  local berths=$1
  shift
  [[ -e ${BERTH_PLUGIN:-} && -e ${BERTH_BROKER:-} && -e ${BERTH_CLI:-} ]] ||
    skip "needs BERTH_PLUGIN, BERTH_BROKER and BERTH_CLI (ctest sets them)"
  mkdir -p "$work/bin"
  install -m 755 "$BERTH_PLUGIN" "$(dirname "$BERTH_PLUGIN")/berth-slurm-job" "$BERTH_BROKER" \
    "$(dirname "$BERTH_BROKER")/berth-topology" "$BERTH_CLI" "$work/bin/"
  policy=$work/policy.toml tiny=$work/tiny.sqsh
  printf '%s\n%s\n[images]\npaths = ["%s"]\n' "$policy_head" "${berths:+berths = $berths}" "$work" >"$policy"
  take_image tiny
  start_cluster --plugin "$work/bin/spank_berth.so" \
    --plugin-args "policy=$policy broker=$work/bin/$(basename "$BERTH_BROKER")" "$@"
}

# on_node NODE COMMAND...: as root in the node's namespaces.
on_node() { "$slurm_tests/cluster" exec "$cluster_dir" "$@"; }

# berth_on NODE ARG...: the CLI, as root, on a node.
berth_on() {
  local node=$1
  shift
  on_node "$node" "$work/bin/berth" --policy "$policy" --node-name "$node" "$@"
}

# What of Berth lives on the cluster's nodes, apart from parked berths.
berth_processes() { pgrep -f "^berth-broker $policy " || true; }
no_berth_processes() { [[ -z $(berth_processes) ]]; }

# The phases of all leases on a node, each once: "parked" when nothing is held.
lease_phases() { on_node "$1" sh -c 'cat /run/berth/leases/* 2>/dev/null' | sed -n 's/.*"phase": "\([a-z]*\)".*/\1/p' | sort -u; }
all_parked() { [[ $(lease_phases "$1") == parked ]]; }
nodes_idle() { [[ $(as_user sinfo -h -o %T | sort -u) == idle ]]; }
