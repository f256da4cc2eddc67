#!/bin/bash
# park, leases, repair and unpark on macvlan devices in namespaces of this test's own. Needs root; 77 means skipped.
# Usage: park_test.sh PATH_OF_BERTH
set -u
# shellcheck source=tests/cli/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
on_own_fabric "$@"
berth=$1
cat >/run/policy.toml <<'TOML'
version = 1

[[pool]]
name = "fast"
kind = "macvlan"
parents = ["port0"]
berths = 3
park = "boot"
addresses = ["10.77.0.0/16"]
nodes = "n[1-4]"

[[pool]]
name = "later"
kind = "macvlan"
parents = ["wire0"]
berths = 1
park = "never"
TOML
chmod 644 /run/policy.toml
node=(--policy /run/policy.toml --state /run/berth --node-name n2)
links_before=$(ip -br link | sort)

run "$berth" park --boot "${node[@]}"
check "pools of the boot are parked" test "$code" = 0
check "one line per device" says "$out" '^port0\.mv2 +parked as rdma0 10\.77\.0\.6/16$'
check "and a total" says "$out" '^3 of 3 devices parked$'
run "$berth" park "${node[@]}"
check "parking again changes nothing" says "$out" '^3 of 3 devices parked$'
run "$berth" leases "${node[@]}"
check "leases lists them" test "$(grep -c 'parked, free' <<<"$out")" = 3
irq=$(compgen -G '/proc/irq/*/smp_affinity_list' | head -n 1 | cut -d/ -f4)
served=$(<"/proc/irq/$irq/smp_affinity_list")
record=/run/berth/leases/port0.mv0
cp "$record" /run/before
sed -i "s/\"phase\"/\"irqs\": [{\"irq\": $irq, \"cpus\": \"0\"}, {\"irq\": 999999, \"cpus\": \"1\"}], &/" "$record"
run "$berth" leases "${node[@]}"
check "steered interrupts: how many, and who serves them" says "$out" "^port0\.mv0 .* 2 to CPUs $served "
check "others have none" test "$(grep -c ' to CPUs ' <<<"$out")" = 1
run "$berth" leases --json "${node[@]}"
check_equal "each with who served it, and who does" "$irq 0 $served, 999999 1 None" "$(python3 -c 'import json, sys
irqs = [irq for lease in json.load(sys.stdin)["leases"] for irq in lease.get("irqs", [])]
print(", ".join("{irq} {cpus} {now}".format(**irq) for irq in irqs))' <<<"$out")"
mv /run/before "$record"
run "$berth" devices -v "${node[@]}"
check "devices knows them" test "$(grep -c 'free, parked' <<<"$out")" = 3
run "$berth" plan -n 3 "${node[@]}"
check "parked devices can be planned with" test "$code" = 0
run "$berth" repair "${node[@]}"
check "there is nothing to repair" says "$out" 'nothing to repair'

run "$berth" park fats "${node[@]}"
check "a misspelt pool is recognised" says "$err" 'did you mean "fast"'
run "$berth" unpark port0.mv1 "${node[@]}"
check "one comes home" test "$code" = 0
run "$berth" unpark port0.mv1 "${node[@]}"
check "and is not parked any more" test "$code" = 2
run "$berth" unpark fast --json "${node[@]}"
check "the rest of the pool comes home" test "$(grep -c '"ok": true' <<<"$out")" = 2
run "$berth" leases "${node[@]}"
check "nothing is left" says "$out" 'no device is parked'

sed -i 's/port0/gone0/' /run/policy.toml
run "$berth" park --boot "${node[@]}"
check "a vanished parent fails" test "$code" = 1
check "and is said" says "$err" 'no device of pool "fast" exists on n2'
chmod 666 /run/policy.toml
run "$berth" park --boot "${node[@]}"
check "a policy that anybody could have written is refused" says "$err" 'can be written by others than root'

check "no link is left over" test "$links_before" = "$(ip -br link | sort)"
check "no mount is left over" test "$(grep -c /run/berth/netns/ /proc/self/mounts)" = 0
finish
