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

. "$(dirname "$0")/attend.sh"

if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# A rank that waits by spinning takes the core from the rank it waits for.
if [ "$ranks" -gt "$(nproc)" ]; then
  export OMPI_MCA_mpi_yield_when_idle=1
fi

# A killed mpirun leaves its session directory and the ranks' segments of shared memory, so both get a place that is
# removed here. Where /dev/shm cannot be written MPI finds another way by itself.
session=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-mpi.XXXXXX") || { echo "local: cannot make a directory in ${TMPDIR:-/tmp}; set TMPDIR" >&2; exit 74; }
places=(--mca orte_tmpdir_base "$session")
if shared=$(mktemp -d /dev/shm/switchyard.XXXXXX 2>/dev/null); then
  places+=(--mca btl_vader_backing_directory "$shared" --mca osc_sm_backing_directory "$shared")
fi

# Its own session, so that a terminal's INT reaches this script alone.
setsid mpirun -np "$ranks" --bind-to none --oversubscribe \
  --mca pml ob1 --mca btl self,vader \
  --mca orte_abort_on_non_zero_status 1 --mca odls_base_sigkill_timeout 0 \
  "${places[@]}" "$@" <&0 &
attend $!
rm -rf "$session" ${shared:+"$shared"}
exit "$code"
