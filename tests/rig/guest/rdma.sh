# What the suites about RDMA have in common. Sourced after suite.sh.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# start_rdma_cluster KIND PARENTS RDMA LINE...: Slurm on the guest, which constrains devices, with one pool; LINEs go into its
# policy.
start_rdma_cluster() {
  policy_head="version = 1
[limits]
memlock = \"unlimited\"
[[pool]]
name = \"fabric\"
kind = \"$1\"
parents = [$2]
rdma = \"$3\"
$(printf '%s\n' "${@:4}")"
  start_berth_cluster "" --host-network --slurm-conf MessageTimeout=60 --slurm-conf PropagateResourceLimitsExcept=MEMLOCK \
    --slurm-conf GresTypes=gpu --node-conf Gres=gpu:1 --gres-conf "NodeName=n1 Name=gpu File=/dev/full" \
    --cgroup-conf ConstrainDevices=yes
}

none_joins() { ! berth_on n1 leases --json | grep '"joins"'; }

# The lines that pools with a netns need.
rdma_addresses=('addresses = ["10.77.0.0/16"]' 'nodes = "n1"')

# on_host ARG...: srun of ranks that see the guest's own root.
on_host() { as_user timeout 200 srun -Q --mpi=none --rdma-container=none "$@"; }

# Programs for ranks, in the user's home. A rank writes its address for the others, and may wait for theirs.
write_rank_programs() {
  cat >"$work/home/verbs.sh" <<'RANK'
set -eu
rm -f "$HOME/done.$SLURM_PROCID"
address=${BERTH_ADDRESS%%,*}
echo "${address:-127.0.0.1}" >"$HOME/address.$SLURM_PROCID"  # in the host's network ranks talk about their QPs over lo
address=${VERBS_ADDRESS:-$address}
peer() { while [ ! -s "$HOME/address.0" ]; do sleep 0.1; done; cat "$HOME/address.0"; }
# The index of the GID of this rank's own address; in the host's network that of the link.
own_gid() {
  [ "$address" ] || { echo 0; return; }
  for index in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
    gid=$(cat "/sys/class/infiniband/$BERTH_RDMA_DEVICE/ports/1/gids/$index")
    case $gid in 0000:0000:0000:0000:0000:ffff:*) ;; *) continue ;; esac
    set -- $(echo "$address" | tr . ' ')
    [ "$(printf %02x%02x:%02x%02x "$@")" = "${gid#0000:0000:0000:0000:0000:ffff:}" ] || continue
    [ "${BERTH_RDMA_GID_INDEX:-$index}" = "$index" ] || break
    echo "$index"
    return
  done
  echo "no GID for $address, or not where BERTH_RDMA_GID_INDEX says: $BERTH_RDMA_GID_INDEX" >&2
  return 1
}
RANK
  cat >"$work/home/pingpong.sh" <<'RANK'
. "$HOME/verbs.sh"
if [ "$SLURM_PROCID" = 0 ]; then
  ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g "$(own_gid)" -n 50 >"$HOME/pingpong.out" 2>&1
else
  peer=$(peer)
  until ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g "$(own_gid)" -n 50 "$peer"; do sleep 0.5; done
fi
RANK
  cat >"$work/home/rdma_cm.sh" <<'RANK'
. "$HOME/verbs.sh"
if [ "$SLURM_PROCID" = 0 ]; then
  rping -s -a "${BERTH_ADDRESS%%,*}" -C 5 >"$HOME/rping.out" 2>&1
else
  peer=$(peer)
  until rping -c -a "$peer" -C 5 -v; do sleep 0.5; done
fi
RANK
  cat >"$work/home/send_lat.sh" <<'RANK'
. "$HOME/verbs.sh"
set -- ib_send_lat -R -d "$BERTH_RDMA_DEVICE" -x "$(own_gid)" -n 20 -F
if [ "$SLURM_PROCID" = 0 ]; then
  "$@" >"$HOME/send_lat.out" 2>&1
else
  peer=$(peer)
  until "$@" "$peer"; do sleep 0.5; done
fi
RANK
  cat >"$work/home/view.sh" <<'RANK'
echo "nics $(ls /sys/class/net | paste -sd' ')"
echo "rdma $(ls /sys/class/infiniband | paste -sd' ')"
echo "verbs $(ls /sys/class/infiniband_verbs | paste -sd' ')"
echo "mad $(ls /sys/class/infiniband_mad | paste -sd' ')"
echo "nodes $(ls /dev/infiniband | paste -sd' ')"
echo "listed $(ibv_devices | awk 'NR > 2 {print $1}' | paste -sd' ')"
echo "fact $BERTH_RDMA_DEVICE $UCX_NET_DEVICES"
RANK
}

# mpi_traffic WHAT: four MPI ranks out of an image, whose messages UCX sends with verbs through each rank's device: UCX says
# so, the device's counters do, and so does --rdma-stats. The GID is that of the rank's link: over soft-RoCE UCX drops datagrams with IPv4 headers.
mpi_traffic() {
  local seen mpi
  [[ -e $work/demo.sqsh ]] || take_image demo
  cat >"$work/home/mpi.sh" <<'RANK'
sent() { rdma statistic show link "$BERTH_RDMA_DEVICE/1" | sed 's/.* sent_bytes \([0-9]*\).*/\1/'; }
link=$(awk '$6 == "rdma0" && /^fe80/ {print $1}' /proc/net/if_inet6)
for index in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  [ "$(tr -d : <"/sys/class/infiniband/$BERTH_RDMA_DEVICE/ports/1/gids/$index")" != "$link" ] || export UCX_IB_GID_INDEX=$index
done
before=$(sent)
"$@" >"$HOME/ucx.$SLURM_PROCID" 2>&1 || { cat "$HOME/ucx.$SLURM_PROCID"; exit 1; }
grep ' right$' "$HOME/ucx.$SLURM_PROCID"
echo "sent $BERTH_RDMA_DEVICE $(($(sent) - before))"
echo "peers by $(sed -n 's,.*ep_cfg\[1\]: tag(\(.*\)).*,\1,p' "$HOME/ucx.$SLURM_PROCID")"
RANK
  # shellcheck disable=SC2054  # the commas are UCX's
  mpi=(as_user timeout 300 srun -Q --mpi=pmix --rdma-container="$work/demo.sqsh" --rdma-stats=figures.mpi -n4
    env OMPI_MCA_pml=ucx UCX_TLS=rc_verbs,ud_verbs,self UCX_LOG_LEVEL=info sh mpi.sh)
  check_contains "$1: MPI: four ranks compute over verbs" "ranks=4 points=64 steps=20" "$("${mpi[@]}" heat 64 20 2>&1)"
  seen=$("${mpi[@]}" pingpong 2 2>&1) || true
  check_equal "$1: MPI: each rank's bytes went through its device" 4 "$(awk '$1 == "sent" && $3 > 4000000 ' <<<"$seen" | wc -l)"
  check_equal "$1: MPI: UCX says so" "$(sed -n 's/^sent \([^ ]*\) .*/rc_verbs\/\1:1/p' <<<"$seen" | sort)" \
    "$(sed -n 's/^peers by //p' <<<"$seen" | sort)"
  check "$1: MPI: --rdma-stats says what the ranks of each device have sent, and which devices several have" \
    python3 - "$work/home/figures.mpi.n1" "$(grep '^sent ' <<<"$seen")" <<'PYTHON'
import json, sys
sent = {}
for _, device, value in map(str.split, sys.argv[2].splitlines()):
    sent.setdefault(device, []).append(int(value))
berths = json.load(open(sys.argv[1]))["berths"]
assert sorted(berth["ranks"] for berth in berths) == [[0], [1], [2], [3]], berths
for berth in berths:
    rdma, own = berth["rdma"], sent[berth["rdma"]["device"]]
    # The ranks read the device's counters themselves, before and after their program; they are all there until the last ends.
    assert max(own) <= rdma["counters"]["sent_bytes"] < 1.5 * sum(own), (berth, own)
    assert rdma["shared"] or len(own) == 1, berth
PYTHON
}

# one_device WHAT: each of two ranks sees one RDMA device, as libraries and tools look for it.
one_device() {
  local seen
  seen=$(on_host -n2 sh "$work/home/view.sh" 2>&1) || true
  printf '%s\n' "$seen"
  check_equal "$1: one RDMA device" 2 "$(grep -cE '^rdma rxe[0-9][v0-9]*$' <<<"$seen")"
  check_equal "$1: one uverbs device in sysfs" 2 "$(grep -cE '^verbs abi_version uverbs[0-9]+$' <<<"$seen")"
  check_equal "$1: one uverbs node" 2 "$(grep -cE '^nodes rdma_cm umad[0-9]+ uverbs[0-9]+$' <<<"$seen")"
  check_equal "$1: libibverbs lists it alone" 2 "$(grep -cE '^listed rxe[0-9][v0-9]*$' <<<"$seen")"
}

# self_tests WHAT: what an administrator breaks in a parked berth is named by the rank that gets it. The other steps are tested
# by tests/namespaces/self_test_test.cpp: here Berth itself mends or refuses before the rank is there.
self_tests() {
  local seen vf node
  read -r vf node < <(on_host -n1 sh -c 'echo $BERTH_DEVICE $(ls /dev/infiniband | grep uverbs)')
  chmod 600 "/dev/infiniband/$node"
  seen=$(on_host -n1 true 2>&1) || true
  chmod 666 "/dev/infiniband/$node"
  check_contains "$1: self-test: a node that the user cannot open" "self-test failed at 'open node'" "$seen"
  check_contains "$1: self-test: with the remedy" "udev rule of rdma-core" "$seen"
  on_node n1 nsenter --net="/run/berth/netns/$vf" ip address flush dev rdma0 scope global
  seen=$(on_host -n1 true 2>&1) || true
  check_contains "$1: self-test: an address that is missing" "self-test failed at 'address present'" "$seen"
  check_contains "$1: self-test: with the remedy" "berth unpark, then berth park" "$seen"
  check "$1: self-test: which helps" berth_on n1 unpark "$vf"
  sed -i 's/^rdma = .*/&\nself_test = false/' "$policy"
  node=$(on_host -n1 sh -c 'ls /dev/infiniband | grep uverbs')
  chmod 600 "/dev/infiniband/$node"
  check "$1: self-test: none where the policy says so" on_host -n1 true
  chmod 666 "/dev/infiniband/$node"
  sed -i '/^self_test = false/d' "$policy"
}

all_parked_free() { ! berth_on n1 leases --json | grep -qE '"phase": "(leased|releasing)"'; }

pci_address_of() { basename "$(readlink -f "/sys/class/net/$1/device")"; }

# What drivers of hardware do when they probe a VF: they make its RDMA device, with the first name that is free.
probe_rdma_devices() {
  local path function
  while :; do
    for path in /sys/bus/pci/devices/*/net/*; do
      function=${path%/net/*}
      if [[ -e $function/physfn && ! -e $function/infiniband ]]; then
        rdma link add "probed$((RANDOM))" type rxe netdev "${path##*/}" 2>/dev/null || true
      fi
    done
    sleep 0.05
  done
}

verbs_traffic() {
  rm -f "$work"/home/address.*
  check "$1: ibv_rc_pingpong between two ranks" on_host -n2 sh "$work/home/pingpong.sh"
}
# figures WHAT: what --rdma-stats and berth stats say of two ranks is what they sent, by TCP and by verbs.
figures() {
  local tcp=4194304 verbs=$((4096 * 300)) step
  cat >"$work/home/tcp.sh" <<'RANK'
. "$HOME/verbs.sh"
if [ "$SLURM_PROCID" = 0 ]; then
  python3 -c 'import socket
client = socket.create_server(("", 7000)).accept()[0]
received = 0
while part := client.recv(65536): received += len(part)
assert received == 4194304, received'
else
  until python3 -c 'import socket, sys
server = socket.create_connection((sys.argv[1], 7000))
server.sendall(bytes(4194304))
server.shutdown(socket.SHUT_WR)
server.recv(1)' "$(peer)"; do sleep 0.5; done
fi
RANK
  rm -f "$work"/home/{address,figures}.*
  check "$1: figures: $tcp bytes over TCP" on_host -n2 --rdma-stats=figures.tcp sh "$work/home/tcp.sh"
  rm -f "$work"/home/address.*
  check "$1: figures: ibv_rc_pingpong sends 300 messages of 4096 bytes each way" on_host -n2 --rdma-stats=figures.verbs sh -c \
    "$(sed 's/-n 50/-n 300/' "$work/home/pingpong.sh")"
  check "$1: figures of both are right, for each rank" python3 - "$work/home/figures.tcp.n1" "$tcp" "$work/home/figures.verbs.n1" "$verbs" <<'PYTHON'
import json, sys
def read(name):
    berths = sorted(json.load(open(name))["berths"], key=lambda berth: berth["ranks"])
    assert [berth["ranks"] for berth in berths] == [[0], [1]] and not any(berth["error"] for berth in berths), berths
    return berths
# Headers of 1500-byte packets, and acknowledgements; with RoCE packets are of 1024 bytes, and a slow guest sends some again.
def about(value, wanted, what):
    assert wanted <= value < wanted * (1.25 if what.startswith("TCP") else 1.6), f"{what}: {value} for {wanted}"
receiver, sender = read(sys.argv[1])
wanted = int(sys.argv[2])
about(sender["link"]["tx_bytes"], wanted, "TCP sent")
about(receiver["link"]["rx_bytes"], wanted, "TCP received")
assert sender["link"]["rx_bytes"] < wanted / 4 and receiver["link"]["tx_bytes"] < wanted / 4
wanted = int(sys.argv[4])
for berth in read(sys.argv[3]):
    about(berth["link"]["tx_bytes"], wanted, "RoCE sent")
    about(berth["link"]["rx_bytes"], wanted, "RoCE received")
    counters = berth["rdma"]["counters"]  # some of netlink, some of sysfs
    about(counters["sent_bytes"], wanted, "RDMA sent")
    about(counters["rcvd_bytes"], wanted, "RDMA received")
    about(counters["port_xmit_data"] * 4, wanted, "RDMA port sent")
    assert counters["rdma_sends"] >= 300, counters
PYTHON
  # shellcheck disable=SC2016
  on_host -n1 sh -c 'exec ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 0' >/dev/null 2>&1 &
  step=$!
  check "$1: figures: berth stats shows the QP of a rank" eventually one_qp
  as_user scancel -u "$test_user"
  wait "$step" || true
}
# shared_figures WHAT LINKS: two ranks on one RDMA device. Its counters are those of both, and say so; what a NIC of its own
# (LINKS=yes) counts, and who has QPs, is each rank's.
shared_figures() {
  local verbs=$((4096 * 300)) step
  rm -f "$work"/home/{address,figures}.*
  check "$1: figures: ibv_rc_pingpong sends 300 messages of 4096 bytes each way" on_host -n2 --rdma-stats=figures.verbs sh -c \
    "$(sed 's/-n 50/-n 300/' "$work/home/pingpong.sh")"
  check "$1: figures: the device's are those of both ranks, and marked so" python3 - "$work/home/figures.verbs.n1" "$verbs" "$2" <<'PYTHON'
import json, sys
berths = sorted(json.load(open(sys.argv[1]))["berths"], key=lambda berth: berth["ranks"])
wanted, links = int(sys.argv[2]), sys.argv[3] == "yes"
assert [berth["ranks"] for berth in berths] == [[0], [1]] and not any(berth["error"] for berth in berths), berths
def about(value, wanted):  # see figures()
    assert wanted <= value < wanted * 1.6, (value, wanted)
assert berths[0]["rdma"] == berths[1]["rdma"] and berths[0]["rdma"]["shared"] is True, berths
about(berths[0]["rdma"]["counters"]["sent_bytes"], 2 * wanted)
about(berths[0]["rdma"]["counters"]["rcvd_bytes"], 2 * wanted)
for berth in berths:
    if links:
        about(berth["link"]["tx_bytes"], wanted)
        about(berth["link"]["rx_bytes"], wanted)
    else:
        assert berth["link"] is None, berth
PYTHON
  check_equal "$1: figures: and at the end of a step as well" 2 \
    "$(on_host -n2 --rdma-stats true 2>&1 >/dev/null | grep -cE 'rank [01] on n1, .*RDMA rxe[0-9v]+:1 \(with others\)')"
  # shellcheck disable=SC2016
  on_host -n2 sh -c '[ "$SLURM_PROCID" = 1 ] || exec sleep 300; ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 0' >/dev/null 2>&1 &
  step=$!
  check "$1: figures: berth stats shows a QP of rank 1, and none of rank 0" eventually qps_are "[0] 0" "[1] 1"
  as_user scancel -u "$test_user"
  wait "$step" || true
}
# qps_are "RANKS QPS"...
qps_are() {
  local seen
  seen=$(berth_on n1 stats --json | python3 -c '
import json, sys
for berth in sorted(json.load(sys.stdin)["berths"], key=lambda berth: berth["ranks"]):
    print(berth["ranks"], sum(each["qps"] for each in berth["rdma"]["objects"]))')
  diff <(printf '%s\n' "$@") <(echo "$seen")
}
one_qp() { [[ $(berth_on n1 stats --json | grep -c '"qps": 1') == 1 ]]; }

# talks_to_another_machine WHAT: a rank in the host's network, on pf0v0 with 10.88.0.1, and one that has pf1v0.
talks_to_another_machine() {
  local other
  ip netns add other-machine
  ip link set dev pf1v0 netns other-machine
  ip -n other-machine link set dev pf1v0 up
  ip -n other-machine address add 10.88.0.2/24 dev pf1v0
  check "$1: another machine answers" eventually ip netns exec other-machine ping -c 1 -W 1 10.88.0.1
  ip netns exec other-machine ibv_rc_pingpong -d rxe1v0 -g 1 -n 3 >/dev/null &
  other=$!
  # shellcheck disable=SC2016
  check "$1: ibv_rc_pingpong with it" on_host -n1 sh -c 'until ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 1 -n 3 10.88.0.2; do sleep 0.5; done'
  wait "$other" || true
  ip -n other-machine address flush dev pf1v0 scope global
  ip -n other-machine link set dev pf1v0 netns 1
  ip link set dev pf1v0 up
  ip netns delete other-machine
  umount /run/netns  # which `ip netns add` has mounted
}
rdma_cm_traffic() {
  rm -f "$work"/home/address.*
  check "$1: rping between two ranks" on_host -n2 sh "$work/home/rdma_cm.sh"
  rm -f "$work"/home/address.*
  check "$1: ib_send_lat -R between two ranks" on_host -n2 sh "$work/home/send_lat.sh"
}

# several_devices WHAT: a rank with two devices has both, of different cards, with traffic over each; and they come home when
# everything of the step is killed.
several_devices() {
  local seen step ranks which
  berth_on n1 unpark --all || true
  seen=$(on_host -n2 --rdma-devices=2 sh "$work/home/view.sh" 2>&1) || true
  printf '%s\n' "$seen"
  check_equal "$1: two RDMA devices, of two cards" 2 "$(grep -cE '^rdma rxe0v[0-9] rxe1v[0-9]$' <<<"$seen")"
  check_equal "$1: two NICs" 2 "$(grep -cE '^nics lo rdma0 rdma1$' <<<"$seen")"
  check_equal "$1: two uverbs nodes" 2 "$(grep -cE '^nodes rdma_cm umad[0-9]+ umad[0-9]+ uverbs[0-9]+ uverbs[0-9]+$' <<<"$seen")"
  check_equal "$1: libraries are told" 2 "$(grep -cE '^fact (rxe.v.),(rxe.v.) \1:1,\2:1,rdma0,rdma1$' <<<"$seen")"
  for which in '%%,*' '##*,'; do
    rm -f "$work"/home/address.*
    # shellcheck disable=SC2016
    check "$1: ibv_rc_pingpong over each (\${X$which})" on_host -n2 --rdma-devices=2 sh -c \
      'export BERTH_RDMA_DEVICE=${BERTH_RDMA_DEVICE'"$which"'} VERBS_ADDRESS=${BERTH_ADDRESS'"$which"'}
      export BERTH_RDMA_GID_INDEX=${BERTH_RDMA_GID_INDEX'"$which"'}; exec sh "$HOME/pingpong.sh"'
  done
  check "$1: further devices are home" eventually none_joins
  check "$1: the first ones are parked" all_parked n1

  rm -f "$work"/home/both.*
  on_host -n2 --rdma-devices=2 sh -c 'echo $$ >"$HOME/both.$SLURM_PROCID"; exec sleep 300' >/dev/null 2>&1 &
  step=$!
  eventually test -s "$work/home/both.0" -a -s "$work/home/both.1" || true
  ranks=("$(<"$work/home/both.0")" "$(<"$work/home/both.1")")
  check "$1: ranks run with two devices" kill -0 "${ranks[@]}"
  kill -KILL "$(pgrep -o -f "^berth-broker $policy ")"
  wait "$step" || true
  berth_on n1 leases
  check "$1: after kill -9 of the broker, repair" berth_on n1 repair
  check "$1: then berth unpark --all" berth_on n1 unpark --all
  check "$1: all is as before" eventually devices_are "$devices_before"
  seen=$(on_host -n2 --rdma-devices=2 sh -c 'echo $BERTH_RDMA_DEVICE' 2>&1) || true
  check_equal "$1: the next step has both" 2 "$(grep -cE '^rxe0v[0-9],rxe1v[0-9]$' <<<"$seen")"
  seen=$(on_host -n2 sh "$work/home/view.sh" 2>&1) || true
  check_equal "$1: then ranks with one have one" 2 "$(grep -cE '^nics lo rdma0$' <<<"$seen")"
}
