# Common to the tests of `berth run`: a machine of their own, made of private mount, network and pid namespaces, in which
# Berth is installed with its setuid helper. Sourced; the caller sets -euo pipefail.
#
#   enter_machine "$@"     runs the calling script again inside the namespaces; goes on only there. What needs the machine's
#                          network, as packages do, is done before that by the script's function `prepare`, if it has one
#   write_policy           reads a policy from standard input; NODE in it is this machine
#   as_user USER COMMAND…  runs as alice, bob or carol, in their home directory
#   check_nothing_left WHAT    one assertion: no process, lease, mount or file is left of the runs so far
#
# Needs BERTH_CLI, BERTH_ENTER, BERTH_BROKER and BERTH_LIBEXECDIR (where the build expects itself to be installed).
# Assertions are those of tests/assertions.sh.
# shellcheck shell=bash

run_tests=$(dirname -- "$(readlink -f "${BASH_SOURCE[0]}")")
readonly run_tests
source "$run_tests/../assertions.sh"

# What a run might leave behind: all but warm berths.
traces() {
  awk '{print "mount", $5, $9}' "/proc/${machine:-self}/mountinfo" | grep -v /run/berth/netns/ | sort
  ip -o link | awk -F': ' '{sub(/@.*/, "", $2); print "link", $2}' | sort
  grep -l -- "$work" /sys/block/loop*/loop/backing_file 2>/dev/null || true
  compgen -G '/run/berth/steps/*' || true
  pgrep -x 'berth(-.*)?' -a | grep -v "^$$ " || true
  "$BERTH_CLI" leases --json | python3 -c '
import json, sys
for lease in json.load(sys.stdin)["leases"]:
    if lease["phase"] != "parked":
        print(lease["berth"]["id"], lease["phase"])'
  # Files of root's outside of the state directory, where a user could have had them put.
  find "$work/home" -xdev -user root ! -type d -newer "$work/begin" 2>/dev/null || true
}
same_traces() { diff <(echo "$traces_before") <(traces); }
check_nothing_left() { check "$1: nothing is left" eventually same_traces; }

enter_machine() {
  needs_root
  command -v mpirun mpicc.openmpi >/dev/null || skip "needs openmpi-bin and libopenmpi-dev"
  if [[ ! ${BERTH_TEST_MACHINE:-} ]]; then
    work=$(mktemp -d /var/lib/berth-test.XXXXXX)
    chmod 755 "$work"
    trap 'rm -rf --one-file-system -- "$work"' EXIT
    if declare -F prepare >/dev/null; then prepare; fi
    BERTH_TEST_MACHINE=$work unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private -- "$0" "$@"
    exit
  fi
  work=$BERTH_TEST_MACHINE
  # A sysfs shows the network namespace that it was mounted in; what lies below the old one is needed as well.
  mkdir "$work/sys"
  mount -t sysfs sysfs "$work/sys"
  mount --rbind /sys/fs/cgroup "$work/sys/fs/cgroup"
  mount --rbind "$work/sys" /sys
  ip link set lo up
  ip link add pf0 type veth peer name pf0-wire
  ip link set pf0 up
  ip link set pf0-wire up
  mkdir "$work"/{etc,etc-work,home}
  mount -t tmpfs tmpfs /run
  mount -t overlay overlay -o "lowerdir=/etc,upperdir=$work/etc,workdir=$work/etc-work" /etc
  mount -t tmpfs -o mode=755 tmpfs /usr/local
  mkdir -p "$BERTH_LIBEXECDIR" /usr/local/bin /etc/berth
  ln -s "$BERTH_LIBEXECDIR/berth-enter" /usr/local/bin/berth
  install -m 755 "$BERTH_CLI" "$BERTH_LIBEXECDIR/berth"
  install -m 755 "$BERTH_BROKER" "$(dirname "$BERTH_BROKER")/berth-topology" "$BERTH_LIBEXECDIR/"
  install -m 4755 "$BERTH_ENTER" "$BERTH_LIBEXECDIR/berth-enter"
  local user uid=70001
  for user in alice bob carol; do
    printf '%s:x:%d:%d::%s:/bin/sh\n' "$user" "$uid" "$uid" "$work/home/$user" >>/etc/passwd
    printf '%s:x:%d:\n' "$user" "$uid" >>/etc/group
    install -d -m 755 -o "$uid" -g "$uid" "$work/home/$user"
    uid=$((uid + 1))
  done
  write_policy <"$run_tests/policy.toml"
  : >"$work/begin"
  traces_before=$(traces)
}

# NODE stands for this machine's name.
write_policy() {
  sed "s/NODE/$(hostname -s)/" >/etc/berth/policy.toml.new
  mv /etc/berth/policy.toml.new /etc/berth/policy.toml
}

as_user() {
  local user=$1
  shift
  (
    cd -- "$work/home/$user" || exit
    exec setpriv --reuid="$user" --regid="$user" --init-groups -- \
      env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$work/home/$user" USER="$user" "$@"
  )
}
