#!/usr/bin/env bash
# hang.sh PROGRAM SKIPS: ranks that would wait for ever are named within parallel.hang_deadline, and all leave: a rank that is
# stopped, one that skips a collective (in SKIPS, a program for it), one that was started for something else.
source "$(dirname "$0")/lib.sh" "$1"
skips=$(realpath "${2:?expected the path of the program that skips collectives}")
deadline=3

# The process of a rank, by its number.
rank_process() {
  local pid
  for pid in $(processes); do
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$1" && echo "$pid"
  done
}
has_stepped() { [ "$(cat "$work/$1/metrics.jsonl" 2>/dev/null | wc -l)" -ge 2 ]; }
has_ended() { ! kill -0 "$started" 2>/dev/null; }

# expect_told TEXT WHAT: one sentence, which holds TEXT, exit code 86, nothing left.
expect_told() {
  wait_until "$2 to be noticed and all ranks to end" has_ended
  code=0
  wait "$started" || code=$?
  expect_refusal 86 "the ranks hang: " "$2"
  grep '^switchyard: ' "$log" | grep -qE -- "$1" || fail "$2: the sentence does not say '$1'"
  expect_no_leftovers
}

# A rank that is stopped does not answer; the others say in which collective they wait for it.
for stopped in 0 1 2; do
  "$local_sh" 3 "$program" train "$config" --run "$work/stop" --set threads=1 --set eval.every=0 --set train.steps=100000 --set log.every=1 \
    --set parallel.hang_deadline=$deadline >"$work/out" 2>"$log" </dev/null &
  started=$!
  wait_until "the first two steps" has_stepped stop
  pid=$(rank_process $stopped)
  [ -n "$pid" ] || fail "rank $stopped was not found"
  kill -STOP "$pid"
  expect_told "rank $stopped does not answer: stopped, ended, or not to be reached; .*wait.* in .* \(collective [0-9]+\) since [0-9:]+ UTC" "SIGSTOP of rank $stopped"
  rm -r "$work/stop"
done

# The run goes on from its last checkpoint with the state of an undisturbed one; a deadline changes nothing.
must_train 0 whole --set train.steps=4
must_train 2 guarded --set train.steps=4 --set parallel.hang_deadline=$deadline
expect_digest guarded "$(digest whole)" "a run with a short deadline"
must_train 2 unguarded --set train.steps=4 --set parallel.hang_deadline=0
expect_digest unguarded "$(digest whole)" "a run without a deadline"

# A rank that goes on where the others wait, over each transport.
for transport in MPI WINDOW; do
  "$local_sh" 3 "$skips" $transport hang "$work" >"$work/out" 2>"$log" </dev/null &
  started=$!
  expect_told "ranks? .*wait.* in barrier 'second' \(collective [0-9]+\).*rank 1 waits in reduce 'third' of layer 5 \(collective [0-9]+\)|rank 1 waits in reduce 'third' of layer 5.*in barrier 'second'" \
    "a barrier that rank 1 skips over $transport"
  code=0
  "$local_sh" 3 "$skips" $transport checked "$work" >"$work/out" 2>"$log" </dev/null || code=$?
  expect_refusal 86 "rank 1 issues reduce 'third' of layer 5" "a barrier that rank 1 skips over $transport, checked"
done

# A rank that was started with another configuration.
code=0
TMPDIR=$TMPDIR "$local_sh" 1 "$program" train "$config" --run "$work/other" : -np 1 "$program" train "$config" --run "$work/other" --resume \
  >"$work/out" 2>"$log" </dev/null || code=$?
expect_refusal 2 "rank 1: started as " "a rank that was started with other arguments"
expect_no_run other "a rank that was started with other arguments"
expect_no_leftovers
echo "stopped, skipping and foreign ranks were named, and every rank ended"
