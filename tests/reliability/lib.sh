# Shared by the scripts of this folder; each begins with:  source "$(dirname "$0")/lib.sh" PROGRAM
#
# $work is a folder that goes with the script. Every process that a script starts has $work in its command line, which
# is how those that outlive it are found. A failure is one sentence, with the log of the last run below it.
set -u
shopt -s nullglob

program=$(realpath "${1:?expected the path of the program}")
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
local_sh=$root/launch/local.sh
config=$root/configs/lm_tiny.textproto
work=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-reliability.XXXXXX") || exit 1
log=$work/log  # standard error of the last run
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
segments_before=$(ls /dev/shm 2>/dev/null)
# One thread a rank: with more ranks than cores, more threads only make a small run slower.
export OMP_NUM_THREADS=1
# The environment of a job that runs these tests is not that of the runs.
unset SLURM_NTASKS SLURM_STEP_NUM_TASKS PMI_SIZE OMPI_COMM_WORLD_SIZE

cleanup() {
  for pid in $(processes); do kill -9 "$pid" 2>/dev/null; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' TERM INT HUP

fail() {
  echo "FAILED: $*" >&2
  if [ -s "$log" ]; then
    echo "the last lines of the run:" >&2
    tail -n 25 "$log" >&2
  fi
  exit 1
}

# Process numbers of what was started here: by the command line, which a zombie does not have. Never this script itself.
processes() {
  local file pid
  for file in /proc/[0-9]*/cmdline; do
    pid=${file#/proc/}
    pid=${pid%/cmdline}
    [ "$pid" = "$$" ] || [ "$pid" = "$BASHPID" ] && continue
    tr '\0' ' ' 2>/dev/null <"$file" | grep -qF "$work" && echo "$pid"
  done
}

children() { cat /proc/"$1"/task/*/children 2>/dev/null; }

# wait_until SENTENCE COMMAND...: polls for as long as the test is allowed to run; the sentence says what never came.
wait_until() {
  local sentence=$1 end=$((SECONDS + 60))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "waited a minute in vain: $sentence"
    sleep 0.02
  done
}

# launch RANKS ARGUMENTS...: the program on so many ranks through launch/local.sh; 0 ranks: one, without mpirun.
# Exit code in $code, standard error in $log.
launch() {
  local ranks=$1
  shift
  code=0
  if [ "$ranks" = 0 ]; then
    "$program" "$@" >"$work/out" 2>"$log" </dev/null || code=$?
  else
    "$local_sh" "$ranks" "$program" "$@" >"$work/out" 2>"$log" </dev/null || code=$?
  fi
}

# train RANKS RUN ARGUMENTS...: the small configuration on so many ranks, in the run directory $work/RUN.
train() {
  local ranks=$1 run=$2
  shift 2
  launch "$ranks" train "$config" --run "$work/$run" --set threads=1 --set eval.every=0 "$@"
}

# must_train ...: the same, and it has to end well.
must_train() {
  train "$@"
  [ "$code" = 0 ] || fail "training ($*) ended with exit code $code where 0 was expected"
}

# The state digest of a run's newest checkpoint, every byte of which is read for it.
digest() {
  "$program" inspect "$work/$1" --digest --json 2>"$log" | sed -n 's/.*"state_digest": "\([0-9a-f]*\)".*/\1/p'
}
step() {
  "$program" inspect "$work/$1" --json 2>"$log" | sed -n 's/.*"step": \([0-9]*\).*/\1/p'
}

# expect_digest RUN DIGEST SENTENCE
expect_digest() {
  local found
  found=$(digest "$1")
  [ -n "$2" ] && [ "$found" = "$2" ] || fail "$3: the state digest is '$found' where the undisturbed run has '$2'"
}

expect_code() { [ "$code" = "$1" ] || fail "$2: exit code $code where $1 was expected"; }

# expect_refusal CODE TEXT WHAT: the last launch ended with CODE and one sentence, which holds TEXT.
expect_refusal() {
  local said
  said=$(grep -c '^switchyard: ' "$log")
  [ "$code" = "$1" ] || fail "$3: exit code $code where $1 was expected"
  [ "$said" = 1 ] || fail "$3: $said lines begin with 'switchyard: ' where one was expected"
  grep '^switchyard: ' "$log" | grep -qF -- "$2" || fail "$3: the sentence does not hold '$2'"
  [ ! -s "$work/out" ] || fail "$3: standard output holds something"
}

expect_nothing_at() { [ ! -e "$1" ] || fail "$2: $1 was left behind"; }

no_process() { [ -z "$(processes)" ]; }

# Segments of shared memory that are new and that no process has mapped.
lost_segments() {
  local path
  for path in /dev/shm/*; do
    grep -qxF "${path#/dev/shm/}" <<<"$segments_before" && continue
    grep -qsF "$path" /proc/[0-9]*/maps || echo "$path"
  done
}
no_lost_segment() { [ -z "$(lost_segments)" ]; }

# Nothing outlives a run, however it ended: no process, no shared memory, nothing of MPI in the temporary folder.
expect_no_leftovers() {
  wait_until "every process of the run to end; left: $(processes | tr '\n' ' ')" no_process
  wait_until "no lost segment in /dev/shm; left: $(lost_segments | tr '\n' ' ')" no_lost_segment
  local left=("$TMPDIR"/switchyard-mpi.* "$TMPDIR"/ompi.*)
  [ ${#left[@]} = 0 ] || fail "MPI's session directory was left behind: ${left[*]}"
}

# expect_tidy RUN: no half-made or half-removed checkpoint.
expect_tidy() {
  local left=("$work/$1"/.tmp-* "$work/$1"/.trash-*)
  [ ${#left[@]} = 0 ] || fail "half-made things were left in the run directory: ${left[*]##*/}"
}

# expect_sound RUN: no checkpoint that was committed was found damaged later.
expect_sound() {
  local found=("$work/$1"/.damaged-*)
  [ ${#found[@]} = 0 ] || fail "a committed checkpoint was found damaged: ${found[*]##*/}"
}

# expect_no_run RUN: nothing of a run was written; a lock may stay, since such a directory can still be taken.
expect_no_run() {
  local path
  for path in "$work/$1"/* "$work/$1"/.[!.]*; do
    [ "${path##*/}" = run.lock ] || fail "$2: ${path##*/} was written into the run directory"
  done
}

# flip FILE PLACE: the lowest bit of the byte at PLACE becomes the other one; from the end where PLACE is negative.
flip() {
  local size at byte
  size=$(stat -c %s "$1")
  at=$2
  [ "$at" -ge 0 ] || at=$((size + at))
  byte=$(od -An -tu1 -j "$at" -N 1 "$1")
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
