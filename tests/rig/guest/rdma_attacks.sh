# Who may open RDMA devices, for how long, how much of them, and what is left. Sourced after rdma.sh.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154

# Tries to open char devices in ways that a rank has; prints what came of each.
write_attack() {
  cat >"$work/home/attack.py" <<'RANK'
import os, stat, sys

def attempt(what, action):
    try:
        action()
        print(what, "ok")
    except OSError as error:
        print(what, error.strerror)

own = "/dev/infiniband/" + next(name for name in os.listdir("/dev/infiniband") if name.startswith("uverbs"))
outside = f"/proc/{open(os.environ['HOME'] + '/outside').read().strip()}/root/dev/infiniband/"
foreign = sorted(name for name in os.listdir(outside) if name.startswith("uverbs") and not own.endswith(name))
attempt("own", lambda: os.open(own, os.O_RDWR))
attempt("outside", lambda: os.open(outside + foreign[0], os.O_RDWR))
attempt("mknod", lambda: os.mknod(os.environ["HOME"] + "/node", stat.S_IFCHR | 0o666, os.stat(outside + foreign[0]).st_rdev))
print("descriptors", sum(os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/infiniband") for fd in os.listdir("/proc/self/fd")
                         if os.path.exists(f"/proc/self/fd/{fd}")))
RANK
  chmod 644 "$work/home/attack.py"
}

# attacks WHAT: a rank opens its own device and no other.
attacks() {
  local outside seen
  as_user sh -c 'echo $$ >outside; exec sleep 300' &
  outside=$!
  eventually test -s "$work/home/outside"
  seen=$(on_host -n1 python3 "$work/home/attack.py" 2>&1) || true
  kill "$(cat "$work/home/outside")"
  wait "$outside" || true
  rm -f "$work/home/outside"
  check_contains "$1: a rank opens its own device" "own ok" "$seen"
  check_contains "$1: not another's by a path of a process outside" "outside Operation not permitted" "$seen"
  check_contains "$1: and makes no node" "mknod Operation not permitted" "$seen"
}

# What two processes of a user can do with an open device, and what must come of it when somebody else gets the berth.
write_passing() {
  cat >"$work/home/pass.py" <<'RANK'
import array, os, socket
name = next(name for name in os.listdir("/dev/infiniband") if name.startswith("uverbs"))
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["HOME"] + "/keeper")
    fd = os.open("/dev/infiniband/" + name, os.O_RDWR)
    connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    connection.recv(1)
print(os.environ["BERTH_DEVICE"])
RANK
  # Keeps the last descriptor that it was given; makes a context of it (an ioctl that works on a descriptor that was passed;
  # write() asks for the credentials that opened it) when a file appears, and says what came of it.
  cat >"$work/home/keep.py" <<'RANK'
import array, fcntl, os, socket, struct, time
home = os.environ["HOME"]
make_context = struct.pack("HHHHQII", 24, 0, 3, 0, 0, 14, 0)  # UVERBS_METHOD_GET_CONTEXT, RDMA_DRIVER_RXE

def attempt(action):
    try:
        action()
        return "ok"
    except OSError as error:
        return error.strerror

listener = socket.socket(socket.AF_UNIX)
listener.bind(home + "/keeper")
listener.listen()
listener.settimeout(0.1)
kept = None
while True:
    try:
        connection, _ = listener.accept()
        _, messages, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
        if kept is not None:
            os.close(kept)
        kept = array.array("i", messages[0][2])[0]
        connection.send(b"x")
        connection.close()  # it counts as a socket of the rank's namespace, which would have the berth rebuilt
    except TimeoutError:
        pass
    if os.path.exists(home + "/try"):
        os.remove(home + "/try")
        answer = (attempt(lambda: os.open(f"/proc/self/fd/{kept}", os.O_RDWR)) + ", "
                  + attempt(lambda: fcntl.ioctl(kept, 0xC0181B01, make_context)))
        with open(home + "/tried.new", "w") as file:
            file.write(answer)
        os.rename(home + "/tried.new", home + "/tried")
RANK
  cat >"$work/home/descriptors.py" <<'RANK'
import os, re
for fd in sorted(os.listdir("/proc/self/fd"), key=int):
    if os.path.exists(f"/proc/self/fd/{fd}"):
        print(fd, re.sub(r"\[\d+\]", "", os.readlink(f"/proc/self/fd/{fd}")))
RANK
  chmod 644 "$work"/home/{pass,keep,descriptors}.py
}

# passed_descriptors WHAT: a rank opens its device and hands it to a process of its user outside.
passed_descriptors() {
  local keeper first second
  as_user timeout 300 python3 keep.py &
  keeper=$!
  eventually test -S "$work/home/keeper"
  first=$(on_host -n1 python3 pass.py)
  second=$(as_another_user srun -Q -n1 --mpi=none --rdma-container=none sh -c 'echo $BERTH_DEVICE' 2>&1) || true
  check_equal "$1: another user gets the berth in which a device was opened" "$first" "$second"
  check_equal "$1: a descriptor that was passed outside is no use then" "Input/output error, Input/output error" "$(tried)"
  check_equal "$1: the owner has the berth again" "$first" "$(on_host -n1 python3 pass.py)"
  check_equal "$1: two processes of one user may pass a descriptor, but not open it anew" "Operation not permitted, ok" "$(tried)"
  check_equal "$1: what is kept open keeps nobody from the berth" "$first" "$(on_host -n1 sh -c 'echo $BERTH_DEVICE' 2>&1)"
  kill "$(pgrep -f '^python3 keep.py')"
  wait "$keeper" || true
  rm -f "$work/home/keeper"
}
as_another_user() {
  (cd / && exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- \
    env -i PATH=/usr/local/bin:/usr/bin:/bin SLURM_CONF="$cluster_dir/slurm.conf" "$@")
}
tried() {
  rm -f "$work/home/tried"
  as_user touch try
  eventually test -s "$work/home/tried"
  cat "$work/home/tried"
}

# nothing_inherited WHAT: a rank has the descriptors that plain Slurm gives; the program that serves an image of the user's
# own has the image, and nothing of the broker that started it.
nothing_inherited() {
  local plain mpi
  for mpi in none pmix; do
    plain=$(as_user srun -Q -n1 --mpi=$mpi python3 descriptors.py) || plain="srun failed"
    check_equal "$1: --mpi=$mpi: a rank has the descriptors that plain Slurm gives" "$plain" \
      "$(as_user srun -Q -n1 --mpi=$mpi --rdma-container=none python3 descriptors.py)"
  done
  install -m 644 -o "$test_user" "$tiny" "$work/home/mine.sqsh"
  run_waiting --rdma-container="$work/home/mine.sqsh"
  check_equal "$1: squashfuse has no descriptor of the broker" "" "$(readlink /proc/"$(pgrep -o squashfuse)"/fd/* 2>&1 |
    grep -vE "^(/dev/null|/dev/fuse|$work/home/mine.sqsh|pipe:.*)$")"
  end_waiting
}

# killed WHAT: a rank with an open QP is killed; its berth is free again.
killed() {
  local step
  rm -f "$work/home/waiting"
  on_host -n1 sh -c 'ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 1 & echo $! >"$HOME/waiting"; wait' >/dev/null 2>&1 &
  step=$!
  check "$1: a rank waits with a QP" eventually qp_is_open
  kill -KILL "$(<"$work/home/waiting")"
  wait "$step" || true
  check "$1: after kill -9 its berth is free" eventually all_parked_free
}
qp_is_open() { [[ -s $work/home/waiting ]] && find "/proc/$(<"$work/home/waiting")/fd" -lname '*uverbs*' | grep -q .; }

# limited WHAT: what a rank may have of its device, and that no limit outlives it.
limited() {
  local seen
  sed -i 's/^rdma = .*/&\nhca_handles = 1/' "$policy"
  seen=$(on_host -n1 sh -c 'ibv_devinfo -d "$BERTH_RDMA_DEVICE" >/dev/null && echo first
    ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 1 >/dev/null 2>&1 & sleep 3
    ibv_devinfo -d "$BERTH_RDMA_DEVICE" >/dev/null 2>&1 || echo second refused; kill $!' 2>&1) || true
  check_equal "$1: hca_handles: one context" $'first\nsecond refused' "$seen"
  sed -i 's/^hca_handles.*/hca_objects = 2/' "$policy"
  check_contains "$1: hca_objects: a PD and an MR, and then no CQ" "Couldn't create CQ" \
    "$(on_host -n1 sh -c 'ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g 1' 2>&1 || true)"
  sed -i '/^hca_objects/d' "$policy"
  check "$1: no limit is left" eventually no_limits
}
no_limits() { ! grep -rEsq --include=rdma.max 'hca_(handle|object)=[0-9]' /sys/fs/cgroup; }

# run_waiting ARG...: srun of a rank that waits until end_waiting; its pid is $waiting.
run_waiting() {
  rm -f "$work/home/waiting"
  as_user srun -Q -n1 --mpi=none "$@" sh -c 'echo $$ >waiting.new; mv waiting.new waiting; exec sleep 300' &
  waiting_step=$!
  eventually test -s "$work/home/waiting"
  waiting=$(<"$work/home/waiting")
}
end_waiting() {
  kill "$waiting"
  wait "$waiting_step" || true
}

# device_programs PID: the device programs of all cgroups that the process is in, Berth's own left out.
device_programs() {
  local path
  path=/sys/fs/cgroup$(sed 's/^0:://' "/proc/$1/cgroup")
  while [[ $path == /sys/fs/cgroup* ]]; do
    bpftool cgroup show "$path" | awk '/cgroup_device/ && !/berth_rdma/ {$1 = ""; print}'
    path=${path%/*}
  done
}
berth_programs() { bpftool prog | grep -c 'name berth_rdma' || true; }

# slurms_rules_stay WHAT: Slurm thinks that /dev/full is a GPU (start_rdma_cluster), and denies it to jobs without one.
slurms_rules_stay() {
  local plain with
  run_waiting
  plain=$(device_programs "$waiting")
  end_waiting
  run_waiting --rdma-container=none
  with=$(device_programs "$waiting")
  check_equal "$1: while a rank runs, Berth's rules are there" 1 "$(berth_programs)"
  end_waiting
  check_contains "$1: Slurm has device programs" "cgroup_device" "$plain"
  check_equal "$1: Slurm's device programs are those of a step without Berth" "$plain" "$with"
  check "$1: Berth's go with the step" eventually berth_has_no_program
  check_contains "$1: what Slurm denies stays denied" "ermitted" "$(on_host -n1 sh -c 'exec 3</dev/full' 2>&1 || true)"
  check "$1: what Slurm gave stays given" on_host -n1 --gres=gpu:1 sh -c 'exec 3</dev/full'
}
berth_has_no_program() { [[ $(berth_programs) == 0 ]]; }

# A program for two ranks that talk until they are killed.
write_load() {
  cat >"$work/home/talk.sh" <<'RANK'
. "$HOME/verbs.sh"
echo $$ >"$HOME/load.$SLURM_PROCID"
set -- ibv_rc_pingpong -d "$BERTH_RDMA_DEVICE" -g "$(own_gid)" -n 10000000
if [ "$SLURM_PROCID" != 0 ]; then
  peer=$(peer)
  until "$@" "$peer"; do sleep 0.5; done
fi
exec "$@"
RANK
}

# QPs that are no more the kernel's own, in the berths and on the host.
user_qps() {
  local netns
  rdma resource show qp | grep ' pid ' || true
  for netns in /proc/self/ns/net $(on_node n1 sh -c 'ls /run/berth/netns/*'); do
    on_node n1 nsenter --net="$netns" rdma resource show qp | grep ' pid ' || true
  done
}
two_user_qps() { [[ $(user_qps | sort -u | wc -l) -ge 2 ]]; }
no_user_qps() { [[ -z $(user_qps) ]]; }

# killed_under_load WHAT: kill -9 of relay, broker and slurmstepd while two ranks talk over their QPs.
killed_under_load() {
  local victim pid step ranks
  for victim in relay broker slurmstepd; do
    rm -f "$work"/home/{address,load}.*
    on_host -n2 sh "$work/home/talk.sh" >"$work/load.log" 2>&1 &
    step=$!
    check "$1: kill -9 of $victim: two ranks have QPs" eventually two_user_qps || cat "$work/load.log"
    ranks=("$(<"$work/home/load.0")" "$(<"$work/home/load.1")")
    case $victim in
      relay) pid=$(pgrep -x berth-relay) ;;
      broker) pid=$(pgrep -o -f "^berth-broker $policy ") ;;
      slurmstepd) pid=$(ps -o ppid= -p "${ranks[0]}" | tr -d ' ') ;;
    esac
    kill -KILL "$pid"
    check "$1: kill -9 of $victim: no rank runs on" eventually gone "${ranks[@]}"
    check "$1: kill -9 of $victim: no broker runs on" eventually no_berth_processes
    if [[ $victim == relay ]]; then
      check "$1: kill -9 of $victim: nothing is leased when the broker has ended" all_parked_free
      check "$1: kill -9 of $victim: srun says that both ranks were killed" eventually says_killed
    fi
    as_user scancel -u "$test_user" 2>/dev/null || true
    kill -KILL "$step" 2>/dev/null || true  # plain Slurm leaves srun waiting when slurmstepd is killed
    wait "$step" 2>/dev/null || true
    check "$1: kill -9 of $victim: the node is idle again" eventually nodes_idle
    if [[ $victim == broker ]]; then check "$1: kill -9 of $victim: berth repair" berth_on n1 repair; fi
    check "$1: kill -9 of $victim: the berths are free" eventually all_parked n1
    check_equal "$1: kill -9 of $victim: no QP is left" "" "$(user_qps)"
    check_equal "$1: kill -9 of $victim: the next ranks find none" 2 \
      "$(on_host -n2 sh -c 'rdma resource show qp | grep -q " pid " || echo none' | grep -c none)"
  done
}
says_killed() { grep -E 'tasks 0-1: Killed|task 0: Killed' "$work/load.log" && grep -E 'tasks 0-1: Killed|task 1: Killed' "$work/load.log"; }
gone() {
  local pid
  for pid in "$@"; do [[ ! -e /proc/$pid ]] || grep -q '^State:.Z' "/proc/$pid/status" || return 1; done
}
