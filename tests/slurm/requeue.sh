#!/usr/bin/env bash
# requeue.sh PROGRAM: launch/slurm.sbatch under a real Slurm with two nodes. One run is put back into the queue while it
# trains, told that its time is up, and stopped as sites do that signal the batch script only; each time it goes on where it
# was, no step is lost or made twice, and it ends in the state of an undisturbed run. Exit 77 with a sentence where Slurm or
# root is missing.
source "$(dirname "$0")/../reliability/lib.sh" "$1"
source "$(dirname "$0")/lib.sh"

missing=$(missing_for_slurm)
if [ "$(id -u)" != 0 ] || [ -n "$missing" ]; then
  echo "skipped: needs root and a Slurm (apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge);" \
    "user $(id -un), missing programs: ${missing:-none}" | tr '\n' ' '
  exit 77
fi
trap 'stop_slurm; cleanup' EXIT
steps=240
settings=(--set train.steps=$steps --set log.every=1 --set checkpoint.every=0)
run=$work/run

# Both nodes are this machine: their ranks meet on loopback.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo SWITCHYARD=$program
must_train 0 whole "${settings[@]}"
whole=$(digest whole)
start_slurm "$work/slurm" || fail "Slurm does not start: $(tail -qn 2 "$work"/slurm/log/* 2>/dev/null)"

submit() {
  : >"$log"
  job=$(sbatch --parsable --output="$log" "$root/launch/slurm.sbatch" "$config" --run "$run" --set threads=1 --set eval.every=0 \
    "${settings[@]}") || fail "sbatch refuses the job"
}
lines() { cat "$run/metrics.jsonl" 2>/dev/null | grep -c '"step"'; }
has_lines() { [ "$(lines)" -ge "$1" ]; }
has_resumed() { [ "$(grep -c '^resumed from' "$log")" = "$1" ]; }
state_is() { scontrol show job "$job" | grep -q "JobState=$1"; }

# expect_stop COUNT WHAT: the life before has saved at the last step that it made.
expect_stop() {
  local said
  has_stopped() { [ "$(grep -c '^stopped as asked at step' "$log")" = "$1" ]; }
  wait_until "$2 to stop the run after a checkpoint" has_stopped "$1"
  wait_until "the job to end after $2" job_is_out
  said=$(sed -n 's/^stopped as asked at step \([0-9]*\);.*/\1/p' "$log" | tail -n 1)
  [ "$said" = "$(lines)" ] || fail "$2: $(lines) steps were made, but the checkpoint is of step $said"
  [ "$said" -lt $steps ] || fail "$2 came too late: the run was over"
  stopped_at=$said
}
job_is_out() { state_is PENDING || state_is FAILED; }
expect_resumed() {
  wait_until "the run to be resumed after $2" has_resumed "$1"
  grep -q "^resumed from .* at step $stopped_at, " "$log" || fail "after $2 the run was not resumed at step $stopped_at"
}
# A job that was put back waits until its old credentials have expired: some seconds here, two minutes elsewhere.
start_again() { wait_until "the job to start again" state_is RUNNING; }

submit
wait_until "the first steps" has_lines 5
scontrol requeue "$job"
expect_stop 1 "scontrol requeue"
start_again
expect_resumed 1 "scontrol requeue"
[ "$(grep -c "^slurm: job $job, restart 1, 2 ranks on n\[1-2\]" "$log")" = 1 ] || fail "the second life is not restart 1 on both nodes"

wait_until "some more steps" has_lines $((stopped_at + 5))
scancel --batch --signal=USR1 "$job"
expect_stop 2 "the warning that time is up"
start_again
expect_resumed 2 "the warning that time is up"

# Where only the batch script hears TERM. Nobody puts this job back: it is submitted again.
wait_until "some more steps" has_lines $((stopped_at + 5))
scancel --batch --signal=TERM "$job"
expect_stop 3 "TERM to the batch script"
wait_until "the stopped job to leave the queue" state_is FAILED
scontrol show job "$job" | grep -q "ExitCode=75:0" || fail "a job that was stopped did not leave with 75"
submit
for line in 80 160 $steps; do wait_until "step $line" has_lines $line; done
wait_until "the run to end" state_is COMPLETED
expect_resumed 1 "TERM to the batch script"

expect_digest run "$whole" "three times stopped and resumed on two nodes"
[ "$(sed -n 's/^{"step":\([0-9]*\),.*/\1/p' "$run/metrics.jsonl" | tr '\n' ' ')" = "$(seq -s ' ' $steps) " ] ||
  fail "metrics.jsonl does not hold every step from 1 to $steps once, in order"
expect_tidy run
echo "put back, out of time and stopped under Slurm: every step once, and the same state $whole"
