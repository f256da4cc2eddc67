# The assertions of all shell tests. Sourced, mostly through the lib.sh of a directory.
#
#   check WHAT COMMAND...                        the command succeeds
#   check_equal WHAT WANTED GOT                  two texts are the same (< wanted, > got)
#   check_contains WHAT PART TEXT                a text holds another
#   check_refused WHAT CODE PATTERN COMMAND...   the command ends with this exit code, and its output matches the pattern
#   eventually COMMAND...                        polls until it succeeds; for `check`
#   pass WHAT, fail WHAT                         the verdict of a comparison that the test makes itself
#   page_block PAGE PATTERN                      the code block of a document that has a line like this, as it stands there
#   needs_root, skip WHY                         the test cannot run here
#   finish                                       the last command: says how many failed; its status is the test's
#
# A library that has something to take down first defines `take_down`; without it, `finish` is `verdict`.
#
# Exit code 77 means skipped (ctest's SKIP_RETURN_CODE); where BERTH_TESTS_MUST_RUN is set, that is a failure.
# shellcheck shell=bash

failures=0

skip() {
  printf 'skipped: %s\n' "$*"
  [[ ${BERTH_TESTS_MUST_RUN:-} ]] && exit 1
  exit 77
}

needs_root() { [[ $EUID == 0 ]] || skip "needs root"; }

pass() { printf 'ok      %s\n' "$1"; }

# fail WHAT [DETAIL...]
fail() {
  printf 'FAILED  %s\n' "$1"
  failures=$((failures + 1))
  shift
  (($# == 0)) || printf '        %s\n' "$@"
}

check() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then pass "$what"; else fail "$what" "$*" "$output"; fi
}

check_equal() {
  if [[ $2 == "$3" ]]; then pass "$1"
  elif [[ $2$3 == *$'\n'* ]]; then fail "$1" "$(diff <(echo "$2") <(echo "$3"))"
  else fail "$1" "wanted: $2" "got:    $3"; fi
}

check_contains() {
  if [[ $3 == *"$2"* ]]; then pass "$1"; else fail "$1" "wanted: ...$2..." "got:    $3"; fi
}

check_refused() {
  local what=$1 wanted=$2 pattern=$3 output code=0
  shift 3
  output=$("$@" 2>&1 </dev/null) || code=$?
  if [[ $code == "$wanted" ]] && grep -qE -- "$pattern" <<<"$output"; then pass "$what"; else
    fail "$what" "wanted: exit code $wanted and \"$pattern\"" "got:    exit code $code and" "$output"
  fi
}

# For up to 10 s, or as long as a slow machine's BERTH_TEST_PATIENCE; only the last attempt speaks.
eventually() {
  local end=$((SECONDS + ${BERTH_TEST_PATIENCE:-10}))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { "$@"; return; }
    sleep 0.02
  done
}

page_block() {
  awk -v pattern="$2" '
    !/^ *```/ { if (inside) { line = substr($0, indent); block = block line "\n"; if (line ~ pattern) wanted = 1 }; next }
    wanted { printf "%s", block; exit }
    { inside = !inside; block = ""; indent = index($0, "`") }
    END { exit !wanted }' "$1"
}

finish() {
  if declare -F take_down >/dev/null; then take_down; fi
  verdict
}

verdict() {
  printf '%d failed\n' "$failures"
  ((failures == 0))
}
