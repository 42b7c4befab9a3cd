#!/usr/bin/env bash
# world.sh PROGRAM: ranks, cores and directories that do not fit together.
source "$(dirname "$0")/lib.sh" "$1"

must_train 0 run --set train.steps=2
whole=$(digest run)

# More ranks than cores: slower, with a warning, and the same bits.
code=0
taskset -c "$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')" "$local_sh" 3 "$program" train "$config" --run "$work/crowd" --set threads=1 --set eval.every=0 \
  --set train.steps=2 >"$work/out" 2>"$log" </dev/null || code=$?
expect_code 0 "three ranks on one core"
grep -q "^warning: 3 ranks share 1 cores" "$log" || fail "three ranks on one core: there is no warning"
grep -q "^warning: 8 lanes on 3 ranks leave 1 of 9 turns of a step idle" "$log" || fail "three ranks, eight lanes: there is no warning of the idle lane"
! grep -q "^switchyard: " "$log" || fail "three ranks on one core: a warning looks like an error"
expect_digest crowd "$whole" "three ranks on one core"

# Each of four processes that a launcher started without MPI would train on its own.
SLURM_NTASKS=4 launch 0 train "$config" --run "$work/slurm"
expect_refusal 2 "SLURM_NTASKS" "a world of one where the launcher says four"
expect_nothing_at "$work/slurm" "a world of one where the launcher says four"

launch 2 generate "$work/run" --prompt a
expect_refusal 2 "generate works on one rank" "generate on two ranks"
launch 2 train "$config" --run "$work/other" --set parallel.transport=SELF
expect_refusal 2 "SELF" "the transport of one rank on two"
expect_no_run other "the transport of one rank on two"
launch 0 verify "$config" --ranks 1,9
expect_refusal 2 "train.lanes" "verify with more ranks than lanes"
launch 2 verify "$config" --ranks 1
expect_refusal 2 "mpirun" "verify under mpirun"
made=("$TMPDIR"/*)
[ ${#made[@]} = 0 ] || fail "refused commands left ${made[*]##*/} in the temporary folder"

# Two runs in one directory at once: the second is refused, the first does not notice.
"$program" train "$config" --run "$work/shared" --set threads=1 --set eval.every=0 --set train.steps=100000 --set log.every=1 >"$work/first.out" 2>"$work/first.log" </dev/null &
first=$!
has_begun() { [ -s "$work/shared/metrics.jsonl" ]; }
wait_until "the first step" has_begun
for resume in "" --resume; do
  train 0 shared $resume
  expect_refusal 2 "in use by another run (process $first on " "a second run in a directory in use ($resume)"
done
train 2 shared --resume
expect_refusal 2 "in use by another run" "a second run of two ranks in a directory in use"
kill -TERM "$first"
code=0
wait "$first" || code=$?
cp "$work/first.log" "$log"
expect_code 75 "the first run, stopped by TERM"
expect_tidy shared
[ "$(digest shared | wc -c)" = 65 ] || fail "the first run's checkpoint is not whole"
expect_no_leftovers
echo "worlds that do not fit were refused; a crowded one gave the same bits"
