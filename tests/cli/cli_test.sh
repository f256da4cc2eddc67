#!/bin/bash
# The `berth` program from outside: answers, exit codes and messages, on a node made of files. Needs no privileges.
# Usage: cli_test.sh PATH_OF_BERTH
set -u
# shellcheck source=tests/cli/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
berth=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A PF eth2 with two VFs, of which the second is bound to vfio-pci; and eth0.
pci=$work/root/sys/devices/pci0000:00
make_function() { # ADDRESS DRIVER
  mkdir -p "$pci/$1" "$work/root/sys/bus/pci/devices"
  echo 0x020000 >"$pci/$1/class"
  echo 0 >"$pci/$1/numa_node"
  ln -s "../../../bus/pci/drivers/$2" "$pci/$1/driver"
  ln -s "../../../devices/pci0000:00/$1" "$work/root/sys/bus/pci/devices/$1"
}
make_netdev() { # NAME DIRECTORY
  mkdir -p "$2/net/$1" "$work/root/sys/class/net"
  echo 3 >"$2/net/$1/ifindex"
  echo 1500 >"$2/net/$1/mtu"
  echo up >"$2/net/$1/operstate"
  ln -sfnr "$2/net/$1" "$work/root/sys/class/net/$1"
}
make_function 0000:3b:00.0 mlx5_core
echo 8 >"$pci/0000:3b:00.0/sriov_totalvfs"
echo 2 >"$pci/0000:3b:00.0/sriov_numvfs"
make_netdev eth2 "$pci/0000:3b:00.0"
ln -s ../../../0000:3b:00.0 "$pci/0000:3b:00.0/net/eth2/device"
make_function 0000:3b:00.2 mlx5_core
make_netdev eth2v0 "$pci/0000:3b:00.2"
make_function 0000:3b:00.3 vfio-pci
for vf in 0 1; do
  ln -s ../0000:3b:00.0 "$pci/0000:3b:00.$((vf + 2))/physfn"
  ln -s "../0000:3b:00.$((vf + 2))" "$pci/0000:3b:00.0/virtfn$vf"
done
make_netdev eth0 "$work/root/sys/devices/virtual"

cat >"$work/policy.toml" <<'TOML'
version = 1

[[pool]]
name = "fast"
kind = "sriov"
parents = ["eth2"]

[[pool]]
name = "slow"
kind = "macvlan"
parents = ["eth0"]
berths = 4
addresses = ["10.77.0.0/16"]
nodes = "n[1-4]"
TOML
node=(--policy "$work/policy.toml" --state "$work/state" --sysfs "$work/root" --node-name n2)

run "$berth" --version
check "--version answers" test "$code" = 0
check "--version names the program" says "$out" '^berth [0-9]+\.[0-9]+\.[0-9]+$'
run "$berth" --help
check "--help succeeds" test "$code" = 0
check "--help gives examples" says "$out" 'berth plan -n 8'

run "$berth"
check "no verb is a usage error" test "$code" = 2
run "$berth" plann
check "a misspelt verb is a usage error" test "$code" = 2
check "and is recognised" says "$err" "did you mean 'plan'"
run "$berth" plan --shrae
check "a misspelt option is recognised" says "$err" "did you mean '--share'"
run "$berth" plan -n 0
check "no rank is a usage error" test "$code" = 2
run "$berth" plan "${node[@]}" --cpu-mask '0;x'
check "a CPU list that is none is a usage error" test "$code" = 2
check "and is shown" says "$err" "'x' is not a list of CPUs"
run "$berth" plan "${node[@]}" -n 3 --cpu-mask '0;0'
check "lists and ranks have to agree" test "$code" = 2
run "$berth" plan "${node[@]}" --pin=hard
check "values of step options are checked" says "$err" 'off, cpus and cpus\+mem'

run "$berth" policy check "$work/policy.toml"
check "a valid policy is valid" test "$code" = 0
check "and described" says "$out" 'every SR-IOV VF of eth2'
sed 's/berths/berhts/' "$work/policy.toml" >"$work/bad.toml"
run "$berth" policy check "$work/bad.toml"
check "an unknown key fails" test "$code" = 1
check "with its line" says "$err" 'bad.toml:12:1: .*berhts'
for example in "$(dirname -- "$0")"/../../examples/policies/*.toml "$(dirname -- "$0")"/../../examples/policy*.toml; do
  run "$berth" policy check "$example"
  check "${example##*/} is valid" test "$code" = 0
done
run "$berth" policy check "$work/none.toml"
check "a missing policy fails" says "$err" 'no policy file'

run "$berth" devices "${node[@]}"
check "devices answers" test "$code" = 0
check "with VF counts" says "$out" '^eth2 .* 2 of 8'
check "and what is not free" says "$out" '0000:3b:00.3 .* bound to vfio-pci'
check "free devices are counted" says "$out" 'pool "slow": 4 of 4 devices free'
run "$berth" devices "${node[@]}" -v
check "-v shows the free ones" says "$out" '0000:3b:00.2 .* free'
run "$berth" devices "${node[@]}" --json
check "JSON has pools" says "$out" '"pools": \['

run "$berth" devices "${node[@]/#n2/stranger}"
check "a node without addresses is told which pool fails" says "$out" 'pool "slow": no address for node .stranger'
check "and sees the others" says "$out" 'pool "fast": 1 of 2 devices free'

run "$berth" plan "${node[@]}" -n 1 -v app.sif
check "a plan" test "$code" = 0
check "takes the usable VF" says "$out" '^0 +0000:3b:00.2 +rdma0'
check "and says why not the other" says "$out" '0000:3b:00.3 +bound to vfio-pci'
run "$berth" plan "${node[@]}" -n 2
check "too few devices fail" test "$code" = 1
check "with another pool as advice" says "$err" 'rdma-pool=slow'
run "$berth" plan "${node[@]}" -n 2 --json
check "in JSON too" says "$out" '"code": "host"'
run "$berth" plan "${node[@]}" -n 2 --pool slow
check "addresses follow the node's number" says "$out" '10\.77\.0\.5/16'
run "$berth" plan "${node[@]}" -n 2 --net=host
check "the host's network needs no device" says "$out" '^1 +- +-'
run "$berth" plan "${node[@]}" app.sif --container other.sif
check "two images are one too many" test "$code" = 2

run "$berth" capture "$work/n2.json" "${node[@]}"
check "a node is captured" test "$code" = 0
live=$("$berth" plan "${node[@]}" -n 3 --pool slow --json)
run "$berth" plan --node "$work/n2.json" --ntasks 3 --pool slow --json
check "and plans as if it were here" test "$out" = "$live"
run "$berth" capture - "${node[@]}"
check "also to standard output" test "$out" = "$(<"$work/n2.json")"
run "$berth" plan --node - --cpu-mask 0 --pool fast <"$work/n2.json"
check "and from standard input" says "$out" '0000:3b:00.2'
run "$berth" devices --node "$work/n2.json"
check "devices shows it as well" says "$out" '0000:3b:00.3 .* bound to vfio-pci'
run "$berth" plan --node "$work/n2.json" --node-name n3
check "a captured node has its name" test "$code" = 2
head -c 1000 "$work/n2.json" >"$work/cut.json"
run "$berth" plan --node "$work/cut.json"
check "a capture that was cut fails" test "$code" = 1
check "with its place" says "$err" 'cut.json:[0-9]+:[0-9]+: '
run "$berth" plan --node n2
check "a name in its place fails" says "$err" "--node-name"

# Machines that are not this one.
cat >"$work/m.xml" <<'XML'
<topology version="2.0"><object type="Machine" cpuset="0x3">
  <object type="NUMANode" os_index="0" cpuset="0x3"/>
  <object type="Core" cpuset="0x1"/><object type="Core" cpuset="0x2"/>
  <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0200 [8086:1572]">
    <object type="OSDev" name="eth0" osdev_type="2"/>
  </object>
</object></topology>
XML
run "$berth" plan --xml "$work/m.xml" -n 2 --vfs 2
check "ranks are planned on VFs of an XML file" says "$out" '^1 +0000:01:00.0/vf1 +1 '
run "$berth" plan --xml "$work/m.xml" -n 2
check "fewer devices than ranks are refused" test "$code" = 1
check "with a way out" says "$err" '--shortage=share'
run "$berth" plan --xml "$work/m.xml" -n 2 --shortage=some --json
check "or some ranks are left without" says "$out" '"unserved": 1.0'
echo '{"topology": "'"$work"'/m.xml", "vfs": 1, "kind": "net", "ranks": [{"cpuset": "1"}]}' >"$work/p.json"
run "$berth" plan --problem "$work/p.json" --json
check "a problem is solved" says "$out" '"0000:01:00.0/vf0"'
sed -i 's/"1"/"7"/' "$work/p.json"
run "$berth" plan --problem "$work/p.json"
check "a problem that does not fit its machine is refused with the place" says "$err" 'p.json: ranks\[0\].cpuset has no CPU'
sed -i '4s/<object/<objekt/' "$work/m.xml"
run "$berth" plan --xml "$work/m.xml"
check "an XML file that is wrong is refused with the place" says "$err" 'm.xml:[0-9]+:[0-9]+: '
run "$berth" plan --xml "$work/missing.xml"
check "and one that is missing" test "$code" = 1
run "$berth" plan --problem "$work/p.json" -n 2
check "a problem names its ranks itself" test "$code" = 2

sed '/^name = "fast"/a gres = "vf"' "$work/policy.toml" >"$work/counted.toml"
counted=("${node[@]/#$work\/policy.toml/$work/counted.toml}")
run "$berth" gres "${node[@]}"
check "a policy that counts nothing has no lines for Slurm" says "$err" 'no pool with the key .gres.'
run "$berth" gres "${counted[@]}"
check "gres prints gres.conf" says "$out" \
  '^NodeName=n2 Name=vf File=/sys/bus/pci/devices/0000:3b:00.2,/sys/bus/pci/devices/0000:3b:00.3'
check "and slurm.conf" says "$out" '^NodeName=n2 Gres=vf:2'
run "$berth" gres "${counted[@]}" --json
check "in JSON too" says "$out" '"count": 2'
run "$berth" plan "${counted[@]}" -n 1 --gres='vf:1(IDX:0)'
check "a plan takes what Slurm gave" says "$out" '^0 +0000:3b:00.2'
run "$berth" plan "${counted[@]}" -n 1 --gres='gpu:1(IDX:0)'
check "and nothing else" says "$err" 'submit the job with --gres=vf:N'

run "$berth" doctor "${node[@]}"
check "doctor finds fault with a policy that anybody can replace" says "$out" '^error +policy'
check "says why and how to mend it" says "$out" '^ +fix: chmod go-w'
check "and with a VF that is not to be had" says "$out" '^warning  pools    1 of 2 devices of pool "fast" cannot be used: 0000:3b:00.3'
check "which is an error for monitoring" test "$code" = 2
run "$berth" doctor "${node[@]}" --json
check "in JSON too, with the same exit code" test "$code" = 2
check "and the worst" says "$out" '"severity": "error"'
run "$berth" doctor --policy "$work/none.toml"
check "no policy, nothing works" says "$out" '^error +policy +no policy file'
run "$berth" plan --node "$work/n2.json" -n 3 --pool slow --svg "$work/plan.svg"
check "a plan is drawn" test "$code" = 0
check "as XML" python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$work/plan.svg"
run "$berth" plan --node "$work/n2.json" -n 3 --pool slow --explain --compare
check "a plan is explained" says "$out" '^remote +0$'
check "and compared" says "$out" '^block +0 +3 of 3'
run "$berth" plan --node "$work/n2.json" -n 3 --pool slow --explain --compare --json
check "in JSON too" python3 -c 'import sys, json
answer = json.load(sys.stdin)
assert [one["policy"] for one in answer["comparison"]] == ["berth", "block", "round-robin", "numa", "first-free"]
assert len(answer["explanation"]["ranks"]) == 3' <<<"$out"
cat >"$work/m.xml" <<'XML'
<topology version="2.0"><object type="Machine" cpuset="0x3">
<object type="NUMANode" os_index="0" cpuset="0x3"/><object type="Core" cpuset="0x1"/><object type="Core" cpuset="0x2"/>
<object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0200 [8086:1572]"><object type="OSDev" name="eth0" osdev_type="2"/></object>
</object></topology>
XML
run "$berth" plan --xml "$work/m.xml" --vfs 3 -n 2 --svg "$work/m.svg"
check "a machine of hwloc is planned for" says "$out" '^1 +0000:01:00.0/vf1'
check "and drawn, with its devices" says "$(<"$work/m.svg")" '>0000:01:00.0/vf1, rank 1<'
run "$berth" plan --node "$work/n2.json" --slurm-job 7
check "a job that Slurm does not know is an error, and says what helps" says "$err" '--cpu-mask'
sed 's/"held": \[\]/"held": [{"device": "eth0.mv0", "parked": true, "leased": true, "holder": "job 7.0", "quarantined": "", "job": 7, "uid": null}]/' \
  "$work/n2.json" | tr -d '\n' >"$work/busy.json"
printf '[[allow]]\nmax_devices = 3\n' | cat "$work/policy.toml" - >"$work/limited.toml"
busy=(--node "$work/busy.json" --policy "$work/limited.toml" --pool slow -n 3)
run "$berth" plan "${busy[@]}"
check "devices of other jobs do not count against the limit" test "$code" = 0
run "$berth" plan "${busy[@]}" --slurm-job 7 --cpu-mask 0-3
check "those of the job do" says "$err" 'other steps of this job hold 1'
run "$berth" plan --node "$work/n2.json" -n 3 --pool slow --svg -
check "the same on standard output" test "$out" = "$(<"$work/plan.svg")"

run "$berth" stats --state "$work/state"
check "stats of a node without berths" test "$code/$out" = "0/no device is leased"
run "$berth" stats --state "$work/state" --json
check "stats --json" says "$(tr -d ' \n' <<<"$out")" '^\{"berths":\[\],"node":"[^"]+","since":null,"time":[0-9.e+]+,"version":1\}$'
run "$berth" stats --state "$work/state" --prometheus "$work/berth.prom"
check "stats --prometheus writes a file, and no more" test "$code/$out/$(cat "$work/berth.prom")/$(ls "$work"/berth.prom*)" = "0///$work/berth.prom"
run "$berth" stats --state "$work/state" 4711.0
check "stats of a step that is not here" test "$code" = 1
check "stats of a step that is not here: said" says "$err" 'cannot show the figures of 4711.0'
for wrong in job 0 4711. .0 4711.0.1 -1 99999999999; do
  run "$berth" stats "$wrong"
  check "stats $wrong is refused" test "$code" = 2
done
for wrong in 0 0.01 x 1e9 nan -1; do
  run "$berth" stats --watch="$wrong"
  check "stats --watch=$wrong is refused" test "$code" = 2
done

run "$berth" leases --state "$work/state"
check "nothing is leased" says "$out" 'no device is parked'
run "$berth" unpark --state "$work/state"
check "unpark wants to be told what" test "$code" = 2
finish
