#!/usr/bin/env bash
# signals.sh PROGRAM: what each signal does to a run, and that nothing is lost by it.
source "$(dirname "$0")/lib.sh" "$1"
# Long enough that no signal comes too late. A run that is told to stop is resumed to the step after.
more=(--set train.steps=100000 --set checkpoint.every=100000 --set log.every=1)

# start COMMAND...: in the background, its process in $started.
start() {
  "$@" >"$work/out" 2>"$log" </dev/null &
  started=$!
}
program_in() { echo "$program" train "$config" --run "$work/$1" --set threads=1 --set eval.every=0 "${more[@]}"; }
has_stepped() { [ "$(wc -l 2>/dev/null <"$work/$1/metrics.jsonl" || echo 0)" -ge "$2" ]; }
finish() {
  wait "$started"
  code=$?
}

# The state of run $1 is the one that an undisturbed run has at its step, and goes on to be.
expect_resumes() {
  local at
  at=$(step "$1")
  [ -n "$at" ] || fail "$2: there is no checkpoint to resume from"
  must_train 0 whole --set train.steps="$at"
  expect_digest "$1" "$(digest whole)" "$2, at step $at"
  must_train 0 whole --resume --set train.steps=$((at + 2))
  must_train 2 "$1" --resume --set train.steps=$((at + 2))
  expect_digest "$1" "$(digest whole)" "$2, resumed at step $at"
  expect_tidy "$1"
  rm -r "$work/whole" "$work/$1"
}

expect_preempted() {
  finish
  expect_code 75 "$2"
  grep -q "stopped as asked at step" "$log" || fail "$2: the log does not say that the run stopped as asked"
  local last
  last=$(tail -n 1 "$work/$1/metrics.jsonl" | sed -n 's/^{"step":\([0-9]*\),.*/\1/p')
  [ "$(step "$1")" = "$last" ] || fail "$2: the checkpoint is of step $(step "$1"), the last step that was made is $last"
  expect_resumes "$1" "$2"
}

for signal in TERM INT USR1; do
  start $(program_in alone)
  wait_until "the first two steps" has_stepped alone 2
  kill -$signal "$started"
  expect_preempted alone "$signal to a process without mpirun"
done

for signal in TERM INT; do
  # A background job of a shell without job control ignores INT; a terminal's does not.
  start env --default-signal=INT "$local_sh" 2 $(program_in ranks)
  wait_until "the first two steps" has_stepped ranks 2
  kill -$signal "$started"
  expect_preempted ranks "$signal to launch/local.sh"
done

mpirun_of() { children "$started" | tr ' ' '\n' | while read -r pid; do [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mpirun ] && echo "$pid"; done; }
mpirun_of_started() { [ -n "$(mpirun_of)" ]; }

start "$local_sh" 2 $(program_in ranks)
wait_until "the first two steps" has_stepped ranks 2
kill -USR1 "$(mpirun_of)"
expect_preempted ranks "USR1 to mpirun"

# mpirun gives its ranks no time after TERM, and leaves with 1.
more=(--set train.steps=100000 --set checkpoint.every=2 --set log.every=1)
start "$local_sh" 2 $(program_in ranks)
wait_until "the first six steps" has_stepped ranks 6
kill -TERM "$(mpirun_of)"
finish
expect_code 1 "TERM straight to mpirun"
[ "$(step ranks)" -ge 4 ] || fail "TERM straight to mpirun after six steps: the newest checkpoint is of step $(step ranks)"
expect_resumes ranks "TERM straight to mpirun"

# However early the signal comes, the run stops with 75 or has never begun.
for moment in 0.05 0.1 0.2 0.4; do
  start "$local_sh" 2 $(program_in early)
  wait_until "mpirun to start" mpirun_of_started
  sleep $moment
  kill -TERM "$started"
  finish
  expect_code 75 "TERM to launch/local.sh $moment s after mpirun's start"
  rm -rf "$work/early"
done
expect_no_leftovers
echo "every signal stopped its run as documented, and every run went on to the same state"
