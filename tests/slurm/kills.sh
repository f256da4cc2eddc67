# kill -9 of every kind of process of a step: no rank runs on, the berth is empty, the next step gets it. Sourced after
# lib.sh by tests that differ in their cluster and policy; sets and uses variables of its own.
# shellcheck shell=bash

rounds=${BERTH_KILL_ROUNDS:-20}

# Starts a step of two ranks on n1 that would sleep for ever, each with a listener; sets $ranks (pids), $broker, $relay,
# $stepd and $srun.
start_step() {
  rm -f "$work"/home/rank.*
  as_user srun -Q -w n1 -N1 -n2 --overcommit --rdma-container="$tiny" \
    sh -c 'nc -l -p 7777 & echo $$ >$HOME/rank.$SLURM_PROCID.new; mv $HOME/rank.$SLURM_PROCID.new $HOME/rank.$SLURM_PROCID
      exec sleep 600' >"$work/srun.log" 2>&1 &
  srun=$!
  if ! eventually test -s "$work/home/rank.0" || ! eventually test -s "$work/home/rank.1"; then
    cat "$work/srun.log"
    return 1
  fi
  ranks=("$(<"$work/home/rank.0")" "$(<"$work/home/rank.1")")
  stepd=$(ps -o ppid= -p "${ranks[0]}" | tr -d ' ')
  broker=$(pgrep -o -f "^berth-broker $policy ")
  relay=$(pgrep -P "$broker")
}

gone() {
  local pid
  for pid in "$@"; do
    # A zombie is dead: whoever was to wait for it may have been the victim.
    if [[ -e /proc/$pid ]] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; then return 1; fi
  done
}

nothing_leased() { [[ ! $(lease_phases n1) =~ leased|releasing ]]; }

# Plain Slurm leaves srun waiting when slurmstepd is killed, with or without Berth.
end_step() {
  local job
  if [[ $kind == slurmstepd || $kind == all ]] || ! eventually gone "$srun"; then
    job=$(as_user squeue -h -o %i | head -n 1)
    [[ -z $job ]] || as_user scancel "$job"
    kill -KILL "$srun" 2>/dev/null || true
  fi
  wait "$srun" 2>/dev/null || true
  as_user scancel -u "$test_user" 2>/dev/null || true
  eventually nodes_idle || return 1
}

# The device of each rank of a new step, and how many TCP sockets it finds there.
next_step() {
  as_user srun -Q -w n1 -N1 -n2 --overcommit --rdma-container="$tiny" \
    sh -c 'echo $BERTH_DEVICE $(($(cat /proc/net/tcp /proc/net/tcp6 | grep -vc local_address)))' 2>&1 | sort | paste -sd' '
}

# kill_every_kind WHAT DEVICES RELEASED: DEVICES are the only two of n1, in order; the command RELEASED succeeds when they
# are as a step that has ended leaves them. Calls before_repair, if there is such a function, when all were killed.
kill_every_kind() {
  local what=$1 first=${2% *} second=${2#* } released=$3 kind round bad victim got
  for kind in rank relay broker slurmstepd; do
    bad=0
    for ((round = 0; round < rounds; round++)); do
      start_step || { bad=$((bad + 1)); end_step; continue; }
      case $kind in
        rank) victim=${ranks[1]} ;;
        relay) victim=$relay ;;
        broker) victim=$broker ;;
        slurmstepd) victim=$stepd ;;
      esac
      kill -KILL "$victim"
      eventually gone "${ranks[@]}" || { echo "round $round: a rank runs on"; bad=$((bad + 1)); }
      eventually no_berth_processes || { echo "round $round: a broker or relay runs on"; bad=$((bad + 1)); }
      # The broker ends last, and nothing is leased any more when it has. One that was killed released nothing: that is
      # the next step's.
      [[ $kind == broker ]] || nothing_leased || { echo "round $round: released too late"; bad=$((bad + 1)); }
      end_step || { echo "round $round: a node is not idle: $(as_user sinfo -h)"; bad=$((bad + 1)); }
      if [[ $kind != broker ]]; then
        eventually "$released" || { echo "round $round: not released: $(lease_phases n1)"; bad=$((bad + 1)); }
      fi
      got=$(next_step)
      [[ $got == "$first 0 $second 0" ]] || { echo "round $round: the next step got: $got"; bad=$((bad + 1)); }
      eventually "$released" || { echo "round $round: the next step did not release: $(lease_phases n1)"; bad=$((bad + 1)); }
    done
    check_equal "$what: $rounds x kill -9 of $kind: nothing runs on, the next step gets the berths, empty" 0 "$bad"
  done

  # Everybody who could bring the devices back dies at once; ranks that know nothing of MPI live on.
  kind=all
  start_step
  kill -STOP "$relay"
  kill -KILL "$stepd" "$broker" "$relay"
  if declare -F before_repair >/dev/null; then before_repair; fi
  check "$what: berth repair after kill -9 of slurmstepd, broker and relay at once" berth_on n1 repair
  check "$what: it ends the ranks" eventually gone "${ranks[@]}"
  check "$what: and finishes what they left" eventually "$released"
  check "$what: the node is idle again" end_step
  check_equal "$what: the next step gets the berths, empty" "$first 0 $second 0" "$(next_step)"
  check "$what: and gives them back" eventually "$released"
  check_equal "$what: no loop device is left" "" "$(losetup -n -O BACK-FILE | grep -F "$tiny" || true)"
}
