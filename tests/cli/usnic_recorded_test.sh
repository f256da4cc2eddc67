#!/bin/bash
# What `berth` says of Cisco usNIC on a recorded node with one vNIC. Needs no privileges.
# Usage: usnic_recorded_test.sh PATH_OF_BERTH
set -u
# shellcheck source=tests/cli/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
berth=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sys=$work/root/sys
pf=$sys/devices/pci0000:00/0000:09:00.0
put() { # FILE TEXT
  mkdir -p "${1%/*}"
  echo "$2" >"$1"
}
put "$pf/class" 0x020000
put "$pf/sriov_totalvfs" 4
put "$pf/sriov_numvfs" 4
net=$pf/net/eth5
put "$net/ifindex" 5
put "$net/address" 00:25:b5:00:00:02
put "$net/mtu" 9000
put "$net/operstate" up
put "$net/speed" 10000
rdma=$pf/infiniband/usnic_1
put "$rdma/iface" eth5
put "$rdma/max_vf" 4
put "$rdma/qp_per_vf" 6
put "$rdma/cq_per_vf" 5
put "$rdma/fw_ver" "4.2(3a)"
put "$rdma/ports/1/state" "4: ACTIVE"
put "$rdma/ports/1/gids/0" fe80:0000:0a0a:0002:0225:b5ff:fe00:0002
put "$rdma/qpn/12/summary" "QPN: 12 State: (RTS) PID: 4711 VF Idx: 3 WQ[0] RQ[0] CQ[0]"
put "$pf/infiniband_verbs/uverbs1/ibdev" usnic_1
put "$pf/infiniband_verbs/uverbs1/dev" 231:193
mkdir -p "$sys"/class/{net,infiniband,infiniband_verbs} "$sys/bus/pci/devices"
ln -s ../../../devices/pci0000:00/0000:09:00.0 "$sys/bus/pci/devices/"
for device in net/eth5 infiniband/usnic_1 infiniband_verbs/uverbs1; do
  ln -s ../../../0000:09:00.0 "$pf/$device/device"
  ln -s "../../devices/pci0000:00/0000:09:00.0/$device" "$sys/class/$device"
done

cat >"$work/policy.toml" <<'TOML'
version = 1
[[pool]]
name = "cisco"
kind = "usnic"
vnic = "shared"
parents = ["eth5"]
TOML
node=(--policy "$work/policy.toml" --state "$work/state" --sysfs "$work/root" --node-name n1)

run "$berth" "${node[@]}" devices -v
check "devices -v shows what usd_devinfo shows" says "$out" \
  '^usnic_1 +eth5 +00:25:b5:00:00:02 +10.10.0.2 +255.255.255.255 +9000 +up +10G +4 +1 +6 +5 +uverbs1 \(231:193\) +4.2\(3a\) +ACTIVE$'
check "devices says how many ranks fit" says "$out" '^pool "cisco": 3 of 4 devices free$'
check "devices says who has the rest" says "$out" \
  'usnic_1 has 4 VFs, 1 of them taken by others \(process 4711\), and a rank takes 1'
run "$berth" "${node[@]}" devices
check "devices without -v does not" test "${out/USNIC/}" = "$out"
run "$berth" "${node[@]}" --json devices
check "devices --json has it" says "$out" '"interface": "eth5"'
check "devices --json says that nothing is wrong" says "$out" '"problem": ""'
run "$berth" "${node[@]}" policy check
check "policy check says what the pool is" says "$out" \
  "usNIC of eth5 in the host's network, shared by ranks with 1 QP each"
run "$berth" "${node[@]}" plan --ranks 4
check "plan refuses more ranks than VFs" test "$code" = 1
check "plan says whose they are" says "$err" '1 of them taken by others \(process 4711\)'
mv "$rdma/max_vf" "$work/max_vf"
run "$berth" "${node[@]}" devices -v
check "a missing file is named" says "$out" 'its file max_vf is missing'
run "$berth" "${node[@]}" plan --ranks 1
check "nobody is given the device then" says "$err" \
  'what sysfs says of usnic_1 cannot be trusted: its file max_vf is missing'
mv "$work/max_vf" "$rdma/max_vf"
run "$berth" "${node[@]}" capture "$work/node.json"
check "capture writes the node" test "$code" = 0
run "$berth" devices -v --node "$work/node.json"
check "the captured node has its usNIC" says "$out" '^usnic_1 +eth5 .* ACTIVE$'
finish
