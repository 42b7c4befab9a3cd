#!/usr/bin/env bash
# resume_mpi.sh PROGRAM FROM: a run that stops on FROM ranks and resumes on 1, 2 and 4 ends with the same state.
# FROM 1 also resumes without mpirun.
source "$(dirname "$0")/lib.sh" "$1"
from=${2:?expected a number of ranks}
steps=7

must_train 0 whole --set train.steps=$steps
whole=$(digest whole)
[ -n "$whole" ] || fail "the undisturbed run has no checkpoint"

must_train "$from" first --set train.steps=3
[ "$(step first)" = 3 ] || fail "a run of 3 steps ended at step $(step first)"
expect_tidy first

targets=(1 2 4)
[ "$from" != 1 ] || targets=(0 "${targets[@]}")
for to in "${targets[@]}"; do
  cp -r "$work/first" "$work/second"
  must_train "$to" second --resume --set train.steps=$steps
  grep -q "resumed from .* at step 3, state digest" "$log" || fail "resuming on $to ranks did not say from where"
  expect_digest second "$whole" "stopped on $from ranks at step 3, resumed on $to (0: without mpirun)"
  rm -r "$work/second"
done
expect_no_leftovers
echo "stopped on $from ranks, resumed on ${targets[*]}: the same state $whole"
