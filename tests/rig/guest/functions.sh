# Functions for the rig's guest. Sourced by its init and by suites.
# shellcheck shell=bash

export BERTH_PLUGIN=/berth/build/slurm/spank_berth.so BERTH_SCRIPTS=/berth/build/slurm
export BERTH_BROKER=/berth/build/launcher/broker/berth-broker BERTH_CLI=/berth/build/launcher/cli/berth

export BERTH_TEST_IMAGES=/berth/run/images
export BERTH_TEST_PATIENCE=60  # seconds; the guest is some ten times slower than a machine
export BERTH_TESTS_MUST_RUN=1

# rig_devices_up MODE VFS: PFs are pf0, pf1 … by NUMA node, VFs pf0v0 …, the RDMA device of pf0v0 is rxe0v0.
rig_devices_up() {
  modprobe -a ib_uverbs rdma_ucm ib_umad rdma_rxe igb igbvf || return
  rdma system set netns "$1" || return  # refused as soon as there is a second network namespace
  rig_name_pfs && rig_make_vfs "$2" && rig_make_rdma_devices
}

rig_name_pfs() {
  local path
  for path in /sys/class/net/*/device/sriov_totalvfs; do
    path=${path%/device/*}
    ip link set dev "${path##*/}" name "pf$(<"$path/device/numa_node")" addrgenmode none up || return
  done
}

# rig_make_vfs VFS: on each PF that has none, under the names that they have at boot. A VF that was made while its PF is down would never get a carrier, so PFs are up before. They must be
# silent meanwhile: igb resets a PF that has packets queued when its link goes down for the change.
rig_make_vfs() {
  local path device pids=()
  for path in /sys/class/net/pf?; do
    rig_wait "the carrier of ${path##*/}" grep -qx 1 "$path/carrier" || return
    [[ $(<"$path/device/sriov_numvfs") == 0 ]] || continue
    echo "$1" >"$path/device/sriov_numvfs" &
    pids+=("$!")
  done
  ((${#pids[@]} == 0)) || wait "${pids[@]}" || return
  for path in /sys/class/net/pf?; do
    ip link set dev "${path##*/}" addrgenmode eui64 || return
    for device in "$path"/device/virtfn*; do
      [[ -e $device ]] || continue
      [[ ! -e /sys/class/net/${path##*/}v${device##*virtfn} ]] || continue
      rig_wait "a netdev of $device" test -e "$device/net" || return
      ip link set dev "$(ls "$device/net")" name "${path##*/}v${device##*virtfn}" || return
    done
  done
}

# On each VF of the host that has none.
rig_make_rdma_devices() {
  local path name
  for path in /sys/class/net/pf?v?; do
    [[ -e $path ]] || continue
    name=${path##*/}
    [[ ! -e /sys/class/infiniband/rxe${name#pf} ]] || continue
    ip link set dev "$name" up && rdma link add "rxe${name#pf}" type rxe netdev "$name" || return
  done
  [[ ! -e /sys/class/net/pf0v0 ]] || rig_wait "all VFs' carriers" rig_vfs_have_carriers
}

# The rig keeps its PFs without addresses; an ordinary NIC has its link-local one.
rig_give_pfs_addresses() {
  local path
  for path in /sys/class/net/pf?; do
    ip link set dev "${path##*/}" down
    ip link set dev "${path##*/}" up
    rig_wait "an address of ${path##*/}" grep -q "^fe80.* ${path##*/}\$" /proc/net/if_inet6
  done
}

rig_vfs_have_carriers() { [[ $(cat /sys/class/net/pf?v?/carrier | sort -u) == 1 ]]; }

# rig_pf_down PF, rig_pf_up PF: igbvf resets a VF in its own time when it finds the link gone. Whatever takes the VF down at that
# moment hangs with the whole kernel (both wait in napi_disable()), so these return when all VFs that are up have noticed.
rig_pf_down() {
  ip link set dev "$1" down
  rig_wait "the VFs of $1 to lose their carriers" rig_no_vf_is "$1" LOWER_UP
}
rig_pf_up() {
  ip link set dev "$1" up
  rig_wait "the carrier of $1" grep -qx 1 "/sys/class/net/$1/carrier"
  rig_wait "the carriers of the VFs of $1" rig_no_vf_is "$1" NO-CARRIER
}

# rig_no_vf_is PF FLAG: none of those that are up, on the host or in a berth.
rig_no_vf_is() {
  local device vf
  ! {
    ip -o link show up | grep " $1v"
    for device in "/sys/class/net/$1/device"/virtfn*; do
      vf=$(basename "$(readlink "$device")")
      [[ ! -e /run/berth/netns/$vf ]] || nsenter --net="/run/berth/netns/$vf" ip -o link show up dev rdma0
    done
  } | grep -q "[<,]$2[,>]"
}

# rig_wait WHAT COMMAND...: polls for up to 30 s.
rig_wait() {
  local what=$1 end=$((SECONDS + 30))
  shift
  until "$@" 2>/dev/null; do
    ((SECONDS < end)) || { echo "rig: gave up waiting for $what" >&2; return 1; }
    sleep 0.05
  done
}
