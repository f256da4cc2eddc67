# What suites about berths share. Sourced.
# shellcheck shell=bash

source "$(dirname -- "${BASH_SOURCE[0]}")/../../assertions.sh"

say() { printf '\n== %s\n' "$*"; }
not() { ! "$@"; }

[[ -e /dev/fd ]] || ln -s /proc/self/fd /dev/fd

pci_of() { basename "$(readlink -f "/sys/class/net/$1/device")"; }
pci_of_vf() { basename "$(readlink -f "/sys/class/net/$1/device/virtfn$2")"; }
vf_line() { ip link show "$1" | grep -A1 "^ *vf $2 " | tr '\n' ' '; }

# in_berth PCI COMMAND...: sees the berth's own sysfs.
in_berth() {
  local pci=$1
  shift
  nsenter --net="/run/berth/netns/$pci" unshare --mount sh -c 'mount -t sysfs sysfs /sys && exec "$@"' sh "$@"
}

# Everything that has to be as before: names, MAC addresses, MTU, up or down, addresses, drivers, attributes.
devices_of_host() {
  local path
  for path in /sys/class/net/pf*; do
    [[ -e $path ]] || continue
    echo "${path##*/} $(pci_of "${path##*/}") $(<"$path/address") mtu $(<"$path/mtu") flags $(<"$path/flags")" \
      "driver $(basename "$(readlink "$path/device/driver")")"
    ip -o addr show dev "${path##*/}" scope global | sed 's/^[0-9]*: //; s/valid_lft.*//'
  done
  for path in /sys/class/net/pf?; do ip link show "${path##*/}" | grep ' vf '; done
}

# write_pool VF-KEYS [PARENTS [BERTHS [OTHER-KEYS]]]: pool "vfs", of the first two VFs of pf0 unless said otherwise.
write_pool() {
  mkdir -p /etc/berth
  cat >/etc/berth/policy.toml <<POLICY
version = 1
[[pool]]
name = "vfs"
kind = "sriov"
parents = [${2:-\"pf0\"}]
berths = ${3:-2}
addresses = ["10.77.0.0/16"]
nodes = "rig"
${4:-}
vf = { $1 }
POLICY
}
