#!/usr/bin/env bash
# Runs a command on N ranks of this machine:  launch/local.sh 2 build/switchyard train configs/lm_small.textproto
#
# It is mpirun with the flags that are right on one host. mpirun gives ranks one second after TERM, which is too short
# for a checkpoint, so TERM and INT become USR1: every rank finishes its step, saves, and leaves with 75.
set -u

case ${1-} in
  '' | *[!0-9]* | 0)
    echo "local: expected a number of ranks and a command, found '${1-}'; usage: launch/local.sh N COMMAND..." >&2
    exit 2 ;;
esac
ranks=$1
shift
[ $# -gt 0 ] || { echo "local: expected a command after the number of ranks; usage: launch/local.sh N COMMAND..." >&2; exit 2; }
command -v mpirun >/dev/null || { echo "local: mpirun is not installed; run launch/install.sh" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# A rank that waits by spinning takes the core from the rank it waits for.
if [ "$ranks" -gt "$(nproc)" ]; then
  export OMPI_MCA_mpi_yield_when_idle=1
fi

# Its own session, so that a terminal's INT reaches this script alone.
setsid mpirun -np "$ranks" --bind-to none --oversubscribe \
  --mca pml ob1 --mca btl self,vader \
  --mca orte_abort_on_non_zero_status 1 --mca odls_base_sigkill_timeout 0 \
  "$@" <&0 &
mpirun=$!
trap 'kill -USR1 "$mpirun" 2>/dev/null' TERM INT

# A trapped signal ends wait early: wait again while mpirun lives.
code=0
while :; do
  wait "$mpirun"
  code=$?
  kill -0 "$mpirun" 2>/dev/null || break
done
exit "$code"
