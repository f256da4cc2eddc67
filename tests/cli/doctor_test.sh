#!/bin/bash
# berth doctor on macvlan devices in namespaces of this test's own: a good node, and what dead processes leave. Needs
# root; 77 means skipped.
# Usage: doctor_test.sh PATH_OF_BERTH
set -u
# shellcheck source=tests/cli/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
on_own_fabric "$@"
berth=$1
mkdir -m 755 /run/images
cat >/run/policy.toml <<'TOML'
version = 1

[[pool]]
name = "fast"
kind = "macvlan"
parents = ["port0"]
berths = 3
addresses = ["10.77.0.0/16"]
nodes = "n[1-4]"

[images]
paths = ["/run/images"]
TOML
chmod 644 /run/policy.toml
node=(--policy /run/policy.toml --state /run/berth --node-name n2)
# About Slurm and berth-enter this test says nothing: the machine may have them or not.
doctor() { run "$berth" doctor "${node[@]}"; }
complaints() { grep -E '^(note|warning|error)' <<<"$out" | grep -vE '^[a-z]+ +(slurm|plugin|pmix|limits|run) '; }

doctor
check "a good node: nothing but Slurm to complain about" test -z "$(complaints)"
for name in view kernel modules iommu rdma policy pools vfs irqs images gres leases; do
  check "says that it looked at: $name" says "$out" "^ok +$name "
done
check "changes nothing" test ! -e /run/berth

run "$berth" park "${node[@]}"
doctor
check "parked devices are fine" says "$out" '^ok +leases +3 devices parked or leased, 0 of them leased$'
sed -i 's/"phase": "parked"/"phase": "leased"/' /run/berth/leases/port0.mv0
touch /run/berth/locks/port9.mv9
doctor
check "a lease that nobody holds" says "$out" '^warning +leases +device port0.mv0 was left behind$'
check "a lock file without a device" says "$out" '^note +leases +traces of port9.mv9 are left$'
check "are a warning, unless Slurm is worse" test "$code" -ge 1
run setpriv --reuid=65534 --regid=65534 --clear-groups "$berth" doctor "${node[@]}"
check "an ordinary user is told that he does not see all" says "$out" '^note +view +not all could be looked at$'
check "and does not see who holds locks" test "$(grep -c 'left behind' <<<"$out")" = 0
run "$berth" repair "${node[@]}"
doctor
check "repair mends both" test -z "$(complaints)"

# In a pid namespace of its own there is no irqbalance of the machine, and a process of that name is all that can be seen
# of one.
printf '\n[pinning]\nirqs = "near"\n' >>/run/policy.toml
cp "$(type -P bash)" /run/irqbalance
mkfifo /run/never
beside() { run unshare --pid --fork --mount-proc bash -c "$1"' "$@"' bash "$berth" doctor "${node[@]}"; }
irqbalance='/run/irqbalance -c "read -r _ <>/run/never"' its_start='& until [[ $(</proc/$!/comm) == irqbalance ]]; do :; done;'
beside ""
check "steered interrupts that nobody moves away" says "$out" '^ok +irqs +no irqbalance'
beside "$irqbalance --foreground $its_start"
check "irqbalance beside steered interrupts" says "$out" '^warning +irqs +irqbalance moves interrupts away from their ranks$'
beside "$irqbalance --policyscript=/x $its_start"
check "irqbalance that is told something" says "$out" '^note +irqs +irqbalance runs, with --policyscript=/x$'
sed -i 's/^irqs = .*/irqs = "off"/' /run/policy.toml
beside "$irqbalance --foreground $its_start"
check "irqbalance where nothing is steered" test -z "$(complaints)"

ip link set port0 down
doctor
check "a link that is down" says "$out" '^ +why: link of port0 is down$'
check "is an error, for nothing is left" test "$code" = 2
ip link set port0 up
chmod 777 /run/images
sed -i 's/n\[1-4\]/m[1-4]/' /run/policy.toml
doctor
check "a node without addresses" says "$out" "^error +pools +no address"
run "$berth" unpark --all "${node[@]}"
finish
