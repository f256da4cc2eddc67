# shellcheck shell=bash disable=SC2034 # the variables are for those who source it
# What the tests of the `berth` program share, beside the assertions of tests/assertions.sh. Sourced.
source "$(dirname -- "${BASH_SOURCE[0]}")/../assertions.sh"

# run COMMAND...: leaves its output in $out, its messages in $err and its exit code in $code.
run() {
  local messages
  messages=$(mktemp)
  out=$("$@" 2>"$messages") && code=0 || code=$?
  err=$(<"$messages")
  rm -f "$messages"
}

# says TEXT PATTERN: the text matches the extended regular expression.
says() { grep -qE -- "$2" <<<"$1"; }

# on_own_fabric "$@": runs the calling script again, as root in network and mount namespaces of its own, with the network interfaces
# port0 and wire0, which are the ends of a cable, and a /run that goes with them.
on_own_fabric() {
  needs_root
  [[ ${BERTH_TEST_INSIDE:-} ]] || exec env BERTH_TEST_INSIDE=1 unshare --net --mount --propagation private "$0" "$@"
  mount -t sysfs sysfs /sys
  mount -t tmpfs -o mode=755 tmpfs /run # root's all the way up, as the policy file wants it
  ip link add port0 type veth peer name wire0
  ip link set port0 up
  ip link set wire0 up
}
