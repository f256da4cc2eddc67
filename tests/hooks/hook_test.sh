#!/bin/bash
# The OCI hook, driven by a runtime that this test plays: real network namespaces, macvlans of a fabric of its own.
# Usage: hook_test.sh HOOK BROKER BERTH. Needs root; 77 means skipped.
# shellcheck disable=SC2317  # functions that check() calls
set -u
# shellcheck source=tests/cli/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cli/lib.sh"
on_own_fabric "$@"
hook=$1 broker=$2 berth=$3
ip link set lo up
cat >/run/policy.toml <<'TOML'
version = 1
[[pool]]
name = "fast"
kind = "macvlan"
parents = ["port0"]
berths = 2
park = "never"
addresses = ["194.168.1.0/24"]
nodes = "n1"
[[pool]]
name = "secret"
kind = "macvlan"
parents = ["wire0"]
berths = 1
[[allow]]
users = ["root"]
pools = ["fast"]
[[allow]]
users = ["alice"]
TOML
links_before=$(ip -br link | sort)
site=(--policy /run/policy.toml --state /run/berth --node-name n1)

# container NAME: starts a process in a netns of its own, as a runtime does before it runs its hooks.
declare -A pid
container() {
  unshare --net --kill-child "${@:2}" sleep 600 &
  pid[$1]=$!
  until [[ $(readlink "/proc/${pid[$1]}/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.01; done
  nsenter --net="/proc/${pid[$1]}/ns/net" ip link set lo up
}
end_container() {
  kill -KILL "${pid[$1]}"
  wait "${pid[$1]}" 2>/dev/null
}
inside() { nsenter --net="/proc/${pid[$1]}/ns/net" "${@:2}"; }

# state NAME PID ANNOTATION...: as a runtime says it; an annotation is "key": "value".
state() {
  local list
  list=$(printf '%s,' "${@:3}")
  printf '{"ociVersion": "1.0.2", "id": "%s", "status": "creating", "pid": %s, "bundle": "/run/bundle", "annotations": {%s}}' \
    "$1" "$2" "${list%,}"
}
give() { state "$1" "${pid[$1]}" "${@:2}" | "$hook" "${site[@]}" --broker "$broker" createRuntime; }
take() { state "$1" 0 '"berth.pool": "fast"' | "$hook" "${site[@]}" poststop; }
nothing_is_held() { [[ ! $(find /run/berth/{leases,netns,locks} -mindepth 1) ]]; }
holder_pid() { sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "/run/berth/leases/$1"; }
is_home() { nothing_is_held && [[ $(ip -br link | sort) == "$links_before" ]]; }
has_address() { inside "$1" ip -o -4 address show dev "$2" | grep -qF " $3 "; }
no_broker() { ! pgrep -f "$broker /run/policy.toml /run/berth"; }
holder_is_gone() { says "$("$berth" leases --state /run/berth)" 'holder is gone'; }

container idle
run give idle '"org.example": "x"'
check "without an annotation of Berth the hook does nothing" test "$code$err" = 0
check "not even a state directory" test ! -e /run/berth
end_container idle

container web1
container web2
run give web1 '"berth.pool": "fast"' '"berth.interface": "eth1"'
check "a container gets a device" test "$code$err" = 0
check "under the name that was asked for, with its address" has_address web1 eth1 194.168.1.1/24
check "and up" grep -q UP <(inside web1 ip -br link show eth1)
run "$berth" leases --state /run/berth
check "it is leased to the container" says "$out" '^port0\.mv0 .* container web1 \(root\)'
run give web2 '"berth.device": "port0.mv1"' '"berth.interface": "eth1"'
check "another gets the device that it names" has_address web2 eth1 194.168.1.2/24
check "they reach each other" inside web1 busybox ping -q -c 1 -W 2 194.168.1.2
container web3
run give web3 '"berth.pool": "fast"'
check "a third finds none" test "$code" = 1
check "and is told who has them" says "$err" 'container web1 \(root\) holds 1'
check "and what to do" says "$err" 'fix: wait until one is free'
end_container web2
check "a container's end brings its device home" eventually test ! -e /run/berth/leases/port0.mv1
check "and leaves the other's alone" has_address web1 eth1 194.168.1.1/24
run take web2
check "after it there is nothing to do" test "$code$err" = 0

end_container web1
run take web1
check "poststop returns when the device is home" is_home
container web1
run give web1 '"berth.pool": "fast"'
check "the same container can be started again" has_address web1 rdma0 194.168.1.1/24
kill -KILL "$(holder_pid port0.mv0)"
run take web1
check "poststop finishes what a killed broker left" is_home
check "and the container's process lives" kill -0 "${pid[web1]}"
run give web1 '"berth.pool": "fast"'
kill -KILL "$(holder_pid port0.mv0)"
check "a killed broker's lease says so" eventually holder_is_gone
run give web3 '"berth.device": "port0.mv0"'
check "the next container gets what a killed broker held" has_address web3 rdma0 194.168.1.1/24
check "and takes it from the first" inside web1 sh -c '! ip link show rdma0 2>/dev/null'
end_container web3
run take web3

# Killed at any time: whoever comes next finishes the job.
for delay in 0.002 0.005 0.01 0.02 0.03 0.05 0.08; do
  for victim in hook broker container; do
    container "v$delay$victim"
    name=v$delay$victim
    state "$name" "${pid[$name]}" '"berth.pool": "fast"' |
      "$hook" "${site[@]}" --broker "$broker" createRuntime 2>/dev/null &
    starter=$!
    sleep "$delay"
    case $victim in
      hook) kill -KILL "$starter" 2>/dev/null ;;
      broker) [[ ! -s /run/berth/leases/port0.mv0 ]] || kill -KILL "$(holder_pid port0.mv0)" 2>/dev/null ;;
      container) kill -KILL "${pid[$name]}" ;;
    esac
    wait "$starter" 2>/dev/null
    [[ $victim == container ]] || end_container "$name"
    take "$name" 2>/dev/null
    eventually is_home || check "home after $victim was killed after $delay s" false
  done
done
check "whatever is killed, and when, the device is home afterwards" is_home

# refused WHAT PATTERN STATE: exit code 1, the reason, and no change.
refused() {
  run "$hook" "${site[@]}" --broker "$broker" createRuntime <<<"$3"
  check "refused: $1" test "$code" = 1
  check "  and says why ($2)" says "$err" "$2"
  check "  and changes nothing" is_home
}
good='"berth.pool": "fast"'
bad() { refused "$1" "$2" "$(state web1 "${pid[web1]}" "${@:3}")"; }
bad "an annotation that Berth does not know" "did you mean 'berth.pool'" '"berth.pol": "fast"'
bad "a pool of another form" "not the form of a pool's name" '"berth.pool": "a b"'
bad "an unknown pool" "no pool 'slow'" '"berth.pool": "slow"'
bad "a pool that root may not use" "no \[\[allow\]\] rule" '"berth.pool": "secret"'
bad "a device outside the pool" "no device 'wire0.mv0'" '"berth.pool": "fast"' '"berth.device": "wire0.mv0"'
bad "a device outside the policy" "no pool of /run/policy.toml that root may use has it" '"berth.device": "wire0.mv0"'
bad "an interface that cannot be" "cannot have this name" "$good" '"berth.interface": "a/b"'
bad "the loopback" "cannot have this name" "$good" '"berth.interface": "lo"'
bad "an interface without a device" "asks for none" '"berth.interface": "eth1"'
bad "an annotation that is no text" "annotations.berth.pool is not a string" '"berth.pool": 1'
bad "an annotation that is there twice" "has the key 'berth.pool' twice" "$good" '"berth.pool": "secret"'
bad "a lone surrogate" "surrogate" '"berth.pool": "\ud800"'
inside web1 ip link add eth1 type veth peer name eth2
bad "a name that is taken" "has a network interface of this name" "$good" '"berth.interface": "eth1"'
refused "no JSON" "container's state:2:1" '{"id": "web1"'
refused "another type" "is not an object" '[]'
refused "nothing" "unexpected end of input" ""
refused "something deep" "nested more than 32 levels" "$(printf '[%.0s' {1..100000})"
head -c 2000000 /dev/zero | tr '\0' ' ' >/run/huge
refused "something huge" "larger than 1 MiB" "$(</run/huge)$(state web1 1 "$good")"
refused "a bundle that is relative" "bundle is not an absolute path" \
  "$(state web1 "${pid[web1]}" "$good" | sed 's:/run/bundle:bundle:')"
refused "an id that leads elsewhere" "id is not the id of a container" "$(state ../web1 "${pid[web1]}" "$good")"
refused "pid 0" "first process, 0, does not exist" "$(state web1 0 "$good")"
refused "pid 1" "first process, 1, does not exist" "$(state web1 1 "$good")"
refused "pid -1" "pid is not a whole number" "$(state web1 -1 "$good")"
refused "a pid that is too large" "pid is not a whole number" "$(state web1 99999999999 "$good")"
unshare --net true &
wait $!
refused "a pid that is gone" "does not exist" "$(state web1 $! "$good")"
sleep 600 &
refused "the host's network" "it is in the host's network" "$(state web1 $! "$good")"
kill $!
container userns --user --map-root-user
refused "a network namespace of a user namespace" "belongs to a user namespace" "$(state userns "${pid[userns]}" "$good")"
end_container userns
run unshare --user --map-root-user "$hook" "${site[@]}" --broker "$broker" createRuntime <<<"$(state web1 "${pid[web1]}" "$good")"
check "refused: a rootless runtime" says "$err" "its runtime is rootless"
chmod 666 /run/policy.toml
bad "a policy that anybody could have written" "can be written by others than root" "$good"
chmod 644 /run/policy.toml
run "$hook" "${site[@]}" --broker /run/nowhere createRuntime <<<"$(state web1 "${pid[web1]}" "$good")"
check "refused: no broker is installed" says "$err" "open /run/nowhere: No such file"
run "$hook" prestart </dev/null
check "a stage that it does not serve is a usage error" test "$code" != 0

end_container web1
check "no link is left over" test "$links_before" = "$(ip -br link | sort)"
check "no mount is left over" test "$(grep -c /run/berth/netns/ /proc/self/mounts)" = 0
check "no broker is left over" eventually no_broker
finish
