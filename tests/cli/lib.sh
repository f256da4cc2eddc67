# shellcheck shell=bash disable=SC2034 # the variables are for those who source it
# What the tests of the `berth` program share. Source it; call `finish` at the end.
failures=0

# check WHAT COMMAND...: the command succeeds.
check() {
  local what=$1
  shift
  if "$@"; then
    echo "ok: $what"
  else
    echo "FAILED: $what"
    failures=$((failures + 1))
  fi
}

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

finish() {
  ((failures == 0)) || echo "$failures failed"
  exit $((failures > 0))
}
