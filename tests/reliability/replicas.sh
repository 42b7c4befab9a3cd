#!/usr/bin/env bash
# Several replicas of each expert, between processes: replicas.sh PROGRAM
#
# More ranks than experts, rows that stay at home and rows that do not give the state of one rank, on every transport; a run
# goes on with other ranks, but not with another number of replicas.
source "$(dirname "$0")/lib.sh" "$@"

settings=(--set model.moe.experts=3 --set checkpoint.every=2)
two=("${settings[@]}" --set parallel.expert_replicas=2)
four_steps=(--set train.steps=4)

must_train 1 alone "${two[@]}" "${four_steps[@]}"
undisturbed=$(digest alone)
must_train 1 one_replica "${settings[@]}" "${four_steps[@]}"
[ "$(digest one_replica)" != "$undisturbed" ] || fail "two replicas give the state of one: nothing was tested"

for transport in WINDOW MPI; do
  must_train 4 "four_$transport" "${two[@]}" "${four_steps[@]}" --set parallel.transport=$transport --check-collectives
  expect_digest "four_$transport" "$undisturbed" "4 ranks, 3 experts with 2 replicas each, $transport"
done
must_train 2 home "${two[@]}" "${four_steps[@]}"
expect_digest home "$undisturbed" "2 ranks, each with a replica of every expert"

# Stopped at step 2, resumed on another number of ranks.
must_train 4 resumed "${two[@]}" --set train.steps=2
train 3 resumed --resume "${settings[@]}" "${four_steps[@]}"
expect_refusal 2 "parallel.expert_replicas is 1 but the run to be resumed has 2" "resuming with another number of replicas"
must_train 3 resumed --resume "${two[@]}" "${four_steps[@]}"
expect_digest resumed "$undisturbed" "saved on 4 ranks, resumed on 3"

launch 1 train "$config" --run "$work/refused" --set parallel.expert_replicas=9
expect_refusal 2 "parallel.expert_replicas is 9 but must be at most train.lanes, 8," "more replicas than lanes"
expect_no_leftovers
echo "replicas: passed"
