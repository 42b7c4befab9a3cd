#!/usr/bin/env bash
# Runs a command on N simulated hosts of this machine, over TCP:
#
#   launch/hosts.sh 2 --rate 1gbit -- build/switchyard train configs/lm_tiny.textproto
#
# Each host is a set of namespaces: its own name, network device, processes, /dev/shm. They meet in a switch, a bridge in a
# network namespace of its own, where mpirun runs, too; nothing of it is seen in the machine's own network. The command runs
# on --slots ranks of each host; one that begins with mpirun is run as it is. Everything ends with this script.
set -u

usage() {
  cat <<'USAGE'
usage: launch/hosts.sh N [--slots S] [--rate RATE] [--traffic FILE] -- COMMAND...
  N                hosts, 1 to 64
  --slots S        ranks of each host (1)
  --rate RATE      bandwidth of each host's link, both ways, as tc has it: 1gbit, 100mbit (no limit)
  --traffic FILE   at the end: a line for each host, its name, bytes and packets sent and received by its link
  COMMAND          a program and its arguments, started by mpirun on N x S ranks; or a whole mpirun command
USAGE
}
fail() {
  echo "hosts: $1" >&2
  exit "${2-1}"
}
number() { [[ $1 =~ ^[1-9][0-9]{0,3}$ ]] || fail "expected $2, found '$1'; see launch/hosts.sh --help" 2; }

hosts=${1-} slots=1 rate='' traffic=''
case $hosts in -h | --help) usage; exit 0 ;; esac
number "$hosts" "a number of hosts"
[ "$hosts" -le 64 ] || fail "$hosts hosts were asked for, but 64 are the most" 2
shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --slots) slots=${2-} ; number "$slots" "a number of ranks after --slots" ;;
    --rate) rate=${2-} ; [[ $rate =~ ^[0-9]+(\.[0-9]+)?[kmgt]?bit$ ]] || fail "expected a rate such as 1gbit after --rate, found '$rate'" 2 ;;
    --traffic) traffic=${2-} ; [ -n "$traffic" ] || fail "expected a file after --traffic" 2 ;;
    *) fail "expected --slots, --rate, --traffic or --, found '$1'; see launch/hosts.sh --help" 2 ;;
  esac
  shift 2
done
[ "${1-}" = -- ] && [ $# -gt 1 ] || fail "expected -- and a command; see launch/hosts.sh --help" 2
shift

[ "$(id -u)" = 0 ] || fail "making hosts of namespaces needs root; start it as root, or use launch/local.sh for ranks of one host" 2
missing=()
for tool in ip:iproute2 tc:iproute2 nsenter:util-linux unshare:util-linux setpriv:util-linux setsid:util-linux mpirun:openmpi-bin; do
  PATH=$PATH:/usr/sbin:/sbin command -v "${tool%:*}" >/dev/null || missing+=("${tool%:*} (apt-get install ${tool#*:})")
done
[ ${#missing[@]} = 0 ] || fail "not installed: ${missing[*]}"
PATH=$PATH:/usr/sbin:/sbin

place=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-hosts.XXXXXX") || fail "cannot make a directory in ${TMPDIR:-/tmp}; set TMPDIR" 74
keepers=()
# Ending the first process of a host ends all its processes, and the namespaces go with the last.
cleanup() {
  local pid
  for pid in "${keepers[@]}"; do kill -KILL "$pid" 2>/dev/null; done
  for pid in "${keepers[@]}"; do wait "$pid" 2>/dev/null; done
  rm -rf "$place"
}
trap cleanup EXIT
. "$(dirname "$0")/attend.sh"
trap ask USR1

# start_keeper NAME: a process in namespaces of its own that does nothing but collect its dead children; its number in $keeper.
start_keeper() {
  local ready=$place/$1.ready
  mkfifo "$ready"
  setpriv --pdeathsig KILL setsid unshare --net --uts --ipc --mount --pid --fork --kill-child --mount-proc bash -c '
    hostname "$1" && ip link set lo up && mount --bind "$2/hosts" /etc/hosts && mount -t tmpfs -o size=50% tmpfs /dev/shm || exit 1
    echo ready >"$3"
    trap "exit 0" TERM
    while :; do sleep 1000 & wait $!; done' keeper "$1" "$place" "$ready" </dev/null >"$place/$1.log" 2>&1 &
  local unshare=$! answer=''
  keepers+=("$unshare")
  read -r -t 20 answer <>"$ready"
  [ "$answer" = ready ] || fail "cannot make host $1: $(head -n 1 "$place/$1.log"); are namespaces allowed here?"
  keeper=$(cat "/proc/$unshare/task/$unshare/children")
  keeper=${keeper%% *}
  echo "$keeper" >"$place/$1.pid"
}
in_host() { nsenter --target "$(cat "$place/$1.pid")" --all --wd="$PWD" -- "${@:2}"; }
# Every end of a link gets a queue, which counts what it sends; that of tbf also keeps to the rate.
queue() {
  local kind=(pfifo limit 1000)
  [ -z "$rate" ] || kind=(tbf rate "$rate" burst 128kb latency 100ms)
  in_host "$1" tc qdisc add dev "$2" root "${kind[@]}"
}
sent() { in_host "$1" tc -s qdisc show dev "$2" | awk '$1 == "Sent" { print $2, $4; exit }'; }

echo "127.0.0.1 localhost" >"$place/hosts"
echo "10.77.0.254 switch" >>"$place/hosts"
for ((i = 1; i <= hosts; ++i)); do echo "10.77.0.$i host$i" >>"$place/hosts"; done
start_keeper switch
switch=$keeper
in_host switch ip link add bridge type bridge && in_host switch ip addr add 10.77.0.254/24 dev bridge && in_host switch ip link set bridge up ||
  fail "cannot make a bridge; is the kernel's bridge module here?"
for ((i = 1; i <= hosts; ++i)); do
  start_keeper "host$i"
  nsenter --target "$switch" --net ip link add "port$i" type veth peer name link0 netns "$keeper" || fail "cannot make a pair of devices; is the kernel's veth module here?"
  # Without segmentation offload packets are counted, and delayed, as they are on a wire.
  in_host switch ip link set "port$i" gso_max_segs 1 master bridge up
  in_host "host$i" ip link set link0 gso_max_segs 1 up
  in_host "host$i" ip addr add "10.77.0.$i/24" dev link0
  queue switch "port$i" && queue "host$i" link0 || fail "cannot make the queues of a link${rate:+ of $rate}; is the kernel's sch_tbf module here?"
  echo "host$i slots=$slots" >>"$place/hostfile"
done

# What mpirun starts a host's daemon with, instead of ssh.
cat >"$place/agent" <<AGENT
#!/bin/sh
host=\$1
shift
exec nsenter --target "\$(cat "$place/\$host.pid")" --all --wd="$PWD" -- sh -c "\$*"
AGENT
chmod +x "$place/agent"
mkdir "$place/tmp"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$place/agent OMPI_MCA_orte_default_hostfile=$place/hostfile OMPI_MCA_orte_tmpdir_base=$place/tmp
export OMPI_MCA_oob_tcp_if_include=10.77.0.0/24 OMPI_MCA_btl_tcp_if_include=10.77.0.0/24
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_osc=^ucx
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_orte_abort_on_non_zero_status=1 OMPI_MCA_odls_base_sigkill_timeout=0
unset SLURM_JOB_ID SLURM_JOBID SLURM_NODELIST SLURM_JOB_NODELIST SLURM_NTASKS SLURM_STEP_NUM_TASKS
# The hosts share this machine's cores. A rank that waits by spinning takes the core from the rank it waits for.
[ $((hosts * slots)) -le "$(nproc)" ] || export OMPI_MCA_mpi_yield_when_idle=1
command=("$@")
case $1 in mpirun | */mpirun) ;; *) command=(mpirun -np $((hosts * slots)) --map-by "ppr:$slots:node" "$@") ;; esac

setpriv --pdeathsig KILL setsid nsenter --target "$switch" --net --uts -- "${command[@]}" <&0 &
attend $!
if [ -n "$traffic" ]; then
  for ((i = 1; i <= hosts; ++i)); do
    echo "host$i $(sent "host$i" link0) $(sent switch "port$i")"
  done >"$traffic" || exit 74
fi
exit "$code"
