# A real Slurm on this machine: one slurmctld, two slurmd, munge, everything in one folder and on loopback. Source it, call
# start_slurm FOLDER; stop_slurm ends what it started. Both slurmd are hosts of their own name (UTS and mount namespaces),
# without which mpirun takes a node for another. Needs root; missing_for_slurm says what is not installed.

missing_for_slurm() {
  local tool
  for tool in slurmctld slurmd munged sbatch scontrol squeue mpirun unshare setpriv; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || echo "$tool"
  done
}

# A port that nobody listens on, and those after it that are needed.
slurm_port() {
  local port
  for port in $(seq 16817 20 18817); do
    ss -Hltn "sport >= :$port and sport <= :$((port + 3))" | grep -q . || { echo "$port"; return; }
  done
}

slurm_configuration() {
  local folder=$1 port=$2 host
  host=$(hostname)
  cat <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.socket,cred_expire=5
PlugStackConfig=$folder/etc/plugstack.conf
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdSpoolDir=$folder/spool.%n
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmdLogFile=$folder/log/slurmd.%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000
SlurmdParameters=config_overrides
MailProg=/bin/true
ReturnToService=2
KillWait=${SLURM_KILL_WAIT:-30}
NodeName=n1 NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=8 RealMemory=1000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
}

slurm_daemons=()
start_daemon() {
  local log=$1
  shift
  setpriv --pdeathsig KILL "$@" >>"$log" 2>&1 </dev/null &
  slurm_daemons+=($!)
}

# start_slurm FOLDER: an empty folder, by its full path. Returns 1 with the reason in FOLDER/log where it does not come up.
start_slurm() {
  local folder=$1 port node end=$((SECONDS + 30))
  PATH=$PATH:/usr/sbin:/sbin
  port=$(slurm_port)
  mkdir -p "$folder"/etc "$folder"/run "$folder"/log "$folder"/state "$folder"/spool.n1 "$folder"/spool.n2
  chmod 755 "$folder"
  touch "$folder/etc/plugstack.conf"
  slurm_configuration "$folder" "$port" >"$folder/etc/slurm.conf"
  { cat /etc/hosts; echo "127.0.0.1 n1 n2"; } >"$folder/etc/hosts"
  export SLURM_CONF=$folder/etc/slurm.conf
  dd if=/dev/urandom of="$folder/etc/munge.key" bs=128 count=1 status=none
  chmod 600 "$folder/etc/munge.key"
  start_daemon "$folder/log/munged.out" munged -F --force --key-file="$folder/etc/munge.key" --socket="$folder/run/munge.socket" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/etc/munge.seed"
  until [ -S "$folder/run/munge.socket" ]; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done
  start_daemon "$folder/log/slurmctld.out" slurmctld -D -c
  for node in n1 n2; do
    start_daemon "$folder/log/slurmd.$node.out" unshare --uts --mount --kill-child bash -c '
      hostname "$1" && mount --bind "$2/etc/hosts" /etc/hosts && exec slurmd -D -N "$1"' slurmd "$node" "$folder"
  done
  until [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

stop_slurm() {
  local pid end=$((SECONDS + 15))
  [ ${#slurm_daemons[@]} -gt 0 ] || return
  scancel --user=root 2>/dev/null
  scancel --full --signal=KILL --user=root 2>/dev/null
  while [ -n "$(squeue -h 2>/dev/null)" ] && [ $SECONDS -lt $end ]; do sleep 0.2; done
  for pid in "${slurm_daemons[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${slurm_daemons[@]}"; do
    (sleep 5; kill -9 "$pid" 2>/dev/null) &
    wait "$pid" 2>/dev/null
    kill $! 2>/dev/null
  done
}
