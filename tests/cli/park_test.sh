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

mkdir -m 755 /run/site /run/tree
images=(/run/site/v1.sqsh /run/site/v2.sqsh)
for image in "${images[@]}"; do mksquashfs /run/tree "$image" -quiet -no-progress >/dev/null; done
ln -s v1.sqsh /run/site/current.sqsh
printf '[images]\npaths = ["/run/site"]\nparked = ["/run/site/current.sqsh", "/run/site/gone.sqsh"]\n' >>/run/policy.toml
loops() { cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -c '^/run/site/'; }
none_mounted() { [[ $(loops) == 0 ]]; }
run "$berth" park later --json "${node[@]}"
check "parking a pool parks its devices" says "$out" '"ok": true'
check "and no image" test "$(loops)" = 0
"$berth" unpark later "${node[@]}" >/dev/null
run "$berth" park /run/site/current.sqsh "${node[@]}"
check "an image is parked alone" says "$out" '^1 of 1 images parked$'
check "no device with it" test "$(wc -l <<<"$out")" = 2
run "$berth" park --boot "${node[@]}"
check "the boot parks images" says "$out" '^/run/site/current.sqsh  mounted already$'
check "an image that is not there fails" test "$code" = 1
check "and is said" says "$err" "cannot use image '/run/site/gone.sqsh'"
check "the others are parked" says "$out" '^1 of 2 images parked$'
run "$berth" leases "${node[@]}"
check "leases lists it by its real path" says "$out" '^image /run/site/v1.sqsh: parked$'
ln -sfn v2.sqsh /run/site/current.sqsh
run "$berth" doctor "${node[@]}"
check "doctor tells that the link leads elsewhere now" says "$out" 'current.sqsh is not parked'
run "$berth" park --boot "${node[@]}"
run "$berth" leases --json "${node[@]}"
check_equal "the new image takes the place of the old one" "['/run/site/v2.sqsh']" \
  "$(python3 -c 'import json, sys; print(json.load(sys.stdin)["images"])' <<<"$out")"
run "$berth" park /run/site/v1.sqsh "${node[@]}"
check "an image that the policy does not list" says "$err" 'does not list it'
run "$berth" unpark /run/site/v1.sqsh "${node[@]}"
check "an image that is not parked" says "$err" "no parked image '/run/site/v1.sqsh'"
run "$berth" unpark /run/site/current.sqsh "${node[@]}"
check "unparked by the link" says "$out" '^/run/site/v2.sqsh  unmounted$'
run "$berth" park --boot "${node[@]}"
run "$berth" unpark --all --json "${node[@]}"
check "all come home, images as well" test "$(grep -c '"ok": true' <<<"$out")" = 4
check "no image is left mounted" eventually none_mounted

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
