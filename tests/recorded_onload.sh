# OpenOnload where there is no adapter of the kind: stand-ins for its library, its module's files in /proc and its char devices.
# Sourced, or run as `bash recorded_onload.sh DIRECTORY`, which is record_onload.
#
#   record_onload DIRECTORY   all of it, for the calling process's mount namespace, which must be a private one: a /dev of its
#                             own, and below DIRECTORY the library, the `onload` command and the profiles
#   register_drivers NAME…    char device drivers of these names, with majors from 400 on, as /proc/devices has them
#   load_module VERSION       what the module says of itself
#   onload_table DIRECTORY    the policy's table
#   make_netperf_image FILE   a squashfs with netserver and netperf, which are iperf3 (netperf is not free), and with an Onload of
#                             its own, which no rank must meet
# shellcheck shell=bash

recorded_onload_interface=0f343b0931126a20f133d67c2b018a3b

register_drivers() {
  local major=400 name devices
  devices=$(mktemp)
  umount /proc/devices 2>/dev/null || true
  {
    printf 'Character devices:\n  1 mem\n'
    for name in "$@"; do printf '%3d %s\n' $((major++)) "$name"; done
    printf '\nBlock devices:\n  7 loop\n'
  } >"$devices"
  chmod 644 "$devices"
  mount --bind "$devices" /proc/devices
  rm "$devices"
}

load_module() {
  printf 'onload_product: Onload\nonload_version: %s\nuk_intf_ver: %s\n' "$1" "$recorded_onload_interface" \
    >/proc/driver/onload/version
}

record_onload() {
  local directory=$1 each
  # A private /dev: the kernel's own belongs to everybody.
  mkdir -p "$directory"/{dev,lib64,bin,profiles}
  mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
  find /dev -mindepth 1 -maxdepth 1 ! -type d -exec cp -a -t "$directory/dev" {} +
  for each in {0..63}; do
    [[ -e $directory/dev/loop$each ]] || mknod "$directory/dev/loop$each" b 7 "$each"
  done
  [[ ! -e $directory/dev/fuse ]] || chmod 666 "$directory/dev/fuse"  # as udev does
  for each in pts shm; do
    mkdir "$directory/dev/$each"
    mount --bind "/dev/$each" "$directory/dev/$each"
  done
  mount --rbind "$directory/dev" /dev

  mount -t tmpfs tmpfs /proc/driver
  mkdir /proc/driver/onload
  register_drivers onload onload_epoll sfc_char
  load_module 9.0.2.140
  mknod -m 666 /dev/onload c 400 0
  mknod -m 666 /dev/onload_epoll c 401 0
  mknod -m 600 /dev/sfc_char c 402 0

  cc -shared -fPIC -DVERSION='"Onload 9.0.2.140 "' -DINTERFACE="\"$recorded_onload_interface\"" \
    -o "$directory/lib64/libonload.so" "$(dirname -- "${BASH_SOURCE[0]}")/recorded_onload.c"
  printf '#!/bin/sh\necho host\n' >"$directory/bin/onload"
  chmod 755 "$directory/bin/onload"
  printf 'onload_set EF_POLL_USEC 100000\nonload_set EF_PIO 0\n' >"$directory/profiles/latency.opf"
  # shellcheck disable=SC2016  # a profile that wants a shell
  printf '# polls\n\nif [ -z "$EF_POLL_USEC" ]; then\n' >"$directory/profiles/latency-best.opf"
}

# Nobody answers at the devices: no self-test.
onload_table() {
  printf '[onload]\nlibrary = "%s"\nscript = "%s"\nprofiles = "%s"\nself_test = false\n' \
    "$1/lib64/libonload.so" "$1/bin/onload" "$1/profiles"
}

make_netperf_image() {
  local root library
  root=$(mktemp -d)
  chmod 755 "$root"
  "$(dirname -- "${BASH_SOURCE[0]}")/../images/build" tiny "$root/image" >/dev/null
  mkdir -p "$root"/image/{lib64,usr/lib64,lib/x86_64-linux-gnu}
  ldd /usr/bin/iperf3 | grep -oE '/[^ ]+' | while read -r library; do install -D -m 755 "$library" "$root/image$library"; done
  install -m 755 /usr/bin/iperf3 "$root/image/usr/local/bin/iperf3"
  printf '#!/bin/sh\nexec iperf3 -s -1\n' >"$root/image/usr/local/bin/netserver"
  # netperf -t TCP_RR -H ADDRESS; the server may take a moment to listen
  cat >"$root/image/usr/local/bin/netperf" <<'SCRIPT'
#!/bin/sh
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  iperf3 -c "$4" -n 4M && exit 0
  sleep 0.2
done
exit 1
SCRIPT
  printf '#!/bin/sh\necho image\n' >"$root/image/bin/onload"
  chmod 755 "$root"/image/usr/local/bin/net{server,perf} "$root/image/bin/onload"
  echo image >"$root/image/usr/lib64/libonload.so"
  mksquashfs "$root/image" "$1" -noappend -all-root -no-progress -quiet
  chmod 644 "$1"
  rm -rf --one-file-system -- "$root"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  record_onload "$1"
fi
