# What the rig's suites have in common: tests/slurm/lib.sh, with the guest as the cluster's only node and VFs as devices.
# Sourced; the caller sets -euo pipefail.
# shellcheck shell=bash

source "$(dirname -- "${BASH_SOURCE[0]}")/functions.sh"
source "$(dirname -- "${BASH_SOURCE[0]}")/../../slurm/lib.sh"

# All that a test may have changed on the guest's NICs and RDMA devices; `finish` compares it with `begin`'s.
machine_devices() {
  ip -o -d link | sed 's/^[0-9]*: //' | grep '^pf' | sort
  ip -o address | sed 's/^[0-9]*: //; s/ tentative//' | grep '^pf' | sort
  ip -4 route | grep -w "dev pf[^ ]*" || true
  rdma link | sort
}

# devices_are TEXT: machine_devices says so; else shows the difference.
devices_are() { diff <(echo "$1") <(machine_devices); }

# start_rig_cluster PARK ARG...: Slurm on the guest, with Berth; every VF of both PFs is in the pool.
start_rig_cluster() {
  local park=$1
  shift
  policy_head="version = 1
[[pool]]
name = \"fabric\"
kind = \"sriov\"
parents = [\"pf*\"]
park = \"$park\"
addresses = [\"10.77.0.0/16\", \"fd77::/64\"]
nodes = \"n1\""
  start_berth_cluster "" --host-network --slurm-conf MessageTimeout=60 "$@"
}

# Which CPUs serve the interrupts of a VF, one line for each: what is set, by number.
irqs_of() {
  local irq
  for irq in $(ls "/sys/bus/pci/devices/$1/msi_irqs" | sort -n); do cat "/proc/irq/$irq/smp_affinity_list"; done
}
irqs_of_all() {
  local vf
  for vf in $(all_vfs); do echo "$vf $(irqs_of "$vf" | paste -sd' ')"; done
}

# The PCI addresses of all VFs, in order.
all_vfs() { readlink /sys/bus/pci/devices/*/virtfn* | sed 's/.*\///' | sort; }
numa_node_of() { cat "/sys/bus/pci/devices/$1/numa_node"; }
